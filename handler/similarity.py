"""Near-duplicates among a client's recent clips: the traces of a query attack.

Stateful detection as in Blacklight (arXiv 2006.14042), with plain means instead of hashes: two
clips that differ by at most `d` at every pixel differ by at most `d` in every mean, so no search
within a budget of half the distance escapes. Searches that leave the budget on the way do, and so
do those that adapt to the refusals (OARS, arXiv 2303.06280): docs/threat-model.md.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from videopure.format.settings import Similarity

__all__ = ["Sighting", "SimilarityMemory", "client_of", "describe_clip"]

FRAMES, CELLS = 4, 8  # sampled frames of a clip; rows and columns of means in each


@dataclass(frozen=True)
class Sighting:
    """The memory's finding about a clip.

    Args:
        client: a digest of the client's name.
        near: number of remembered near-duplicates of the same client.
        alarm: whether these are as many as `similarity.alarm_at`.
        refused: whether these are as many as `similarity.refuse_at`.
        first: whether the client's previous clip raised no alarm.
    """

    client: str
    near: int
    alarm: bool = False
    refused: bool = False
    first: bool = False


@dataclass
class _Client:
    seen: deque[tuple[float, np.ndarray]]
    alarmed: bool = False


class SimilarityMemory:
    """Remembers the latest clips of each client, in bounded memory and time.

    A client's clips replace only its own older ones. A client beyond `clients` replaces the least
    recent one.

    Args:
        settings: how much to remember, how long, and what counts as near.
        clock: seconds.
    """

    def __init__(self, settings: Similarity, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def observe(self, client: str, clips: Sequence[Tensor]) -> tuple[Sighting, ...]:
        """Compare the clips of a video with the client's recent ones, then remember them.

        They are not compared with each other: a still scene resembles itself.

        Args:
            client: see `client_of`.
            clips: each [T, 3, H, W] in 0..1.
        """
        known, now = self._recent(client), self._clock()
        described = [describe_clip(clip) for clip in clips]
        sightings = tuple(self._sighting(client, known, means) for means in described)
        known.seen.extend((now, means) for means in described)
        return sightings

    def _recent(self, client: str) -> _Client:
        """The remembered clips of a client, without those that are too old."""
        known = self._clients.setdefault(client, _Client(deque(maxlen=self.settings.clips)))
        self._clients.move_to_end(client)
        while len(self._clients) > self.settings.clients:
            self._clients.popitem(last=False)
        while known.seen and self._clock() - known.seen[0][0] > self.settings.seconds:
            known.seen.popleft()
        return known

    def _sighting(self, client: str, known: _Client, means: np.ndarray) -> Sighting:
        near, limit = self._near(known, means), self.settings.refuse_at
        alarm = near >= self.settings.alarm_at
        first, known.alarmed = alarm and not known.alarmed, alarm
        return Sighting(client, near, alarm, limit is not None and near >= limit, first)

    def _near(self, known: _Client, means: np.ndarray) -> int:
        if not known.seen:
            return 0
        others = np.stack([seen for _, seen in known.seen])  # [N, D]
        furthest = np.abs(others - means).max(axis=1)
        # Both were rounded, by at most a half.
        return int((furthest <= self.settings.distance + 1).sum())


def describe_clip(frames: Tensor) -> np.ndarray:
    """Means of grey over 8x8 cells of 4 frames spread over a clip, in 1/255: int16 [256].

    Args:
        frames: [T, 3, H, W] in 0..1.
    """
    total = len(frames)
    chosen = [(2 * k + 1) * total // (2 * FRAMES) for k in range(FRAMES)]
    grey = frames[chosen].mean(dim=1, keepdim=True)  # [4, 1, H, W]
    cells = F.adaptive_avg_pool2d(grey, CELLS)
    means: np.ndarray = (255 * cells).round().flatten().cpu().numpy().astype(np.int16)
    return means


def client_of(headers: Mapping[str, str], name: str | None) -> str:
    """A digest of the header that names the client; without one, all clients are the same.

    Args:
        headers: headers of a request, names in lower case; gRPC has none.
        name: name of the header.
    """
    sent = "" if name is None else headers.get(name.lower(), "")
    return hashlib.sha256(sent.encode()).hexdigest()[:16]
