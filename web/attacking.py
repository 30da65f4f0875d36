"""Attacks a clip on the spot, with the models of an archive on this machine."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from videopure.evaluation.archives import load_evaluated
from videopure.evaluation.attacks.losses import cross_entropy, lead, soft_vote
from videopure.evaluation.attacks.pgd import pgd
from videopure.format.loading import LoadedArchive
from videopure.handler.clips import read_for_recogniser
from videopure.handler.decoder import Decoder
from videopure.motions.clips import write_video
from videopure.purifier import Framing

__all__ = ["Attacked", "Attacker", "Knows"]

Knows = Literal["recogniser", "everything"]
_CLEAR = 1.0  # lead of a wrong class, in logits, that ends the attack
_SLOWEST, _FASTEST = 1.0, 30.0  # frames a second


@dataclass(frozen=True)
class Attacked:
    """A clip after the attack.

    Args:
        video: a lossless mp4 of the frames that the recogniser takes.
        before, after: label and score of the attacked model on the clean and the attacked clip.
        largest: largest change of a pixel, in 1/255.
    """

    video: bytes
    before: tuple[str, float]
    after: tuple[str, float]
    largest: int


class Attacker:
    """PGD on the models of an archive; one attack at a time.

    Args:
        loaded: the archive's models.
    """

    def __init__(self, loaded: LoadedArchive) -> None:
        self._loaded = loaded
        self._decoder = Decoder()
        self._lock = threading.Lock()

    @classmethod
    def of_archive(cls, archive: Path) -> Attacker:
        """Load an archive, on a GPU if there is one.

        Raises:
            EvaluationError: if it is not a VideoPure archive, or is damaged.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(load_evaluated(archive, device))

    def close(self) -> None:
        """End the process that decodes."""
        self._decoder.close()

    def refusal(self, description: dict[str, Any] | None) -> str | None:
        """Why a clip attacked here would say nothing about the server; None if it would.

        Args:
            description: description of the served model; None if the server gives none.
        """
        if description is None:
            return None
        served, local = description["recogniser"], self._loaded.defended.recogniser
        size = (served["frames"], served["height"], served["width"])
        if (served["name"], size, tuple(served["labels"])) == (
            self._loaded.manifest.recogniser.name,
            (local.num_frames, *local.frame_size),
            tuple(local.labels),
        ):
            return None
        return (
            f"The archive holds the recogniser {self._loaded.manifest.recogniser.name!r}, and the "
            f"server another one, {served['name']!r}. Give --archive the archive that is served."
        )

    def attack(
        self,
        video: bytes,
        *,
        epsilon: float,
        steps: int,
        knows: Knows,
        on_step: Callable[[int], object],
    ) -> Attacked:
        """Move a clip away from its own label.

        Args:
            video: the file; it is decoded in a separate process.
            epsilon: largest change of a pixel (L-inf), in 1/255.
            steps: most steps of PGD, which ends when a wrong class leads clearly.
            knows: which gradient it follows, that of the bare recogniser or of all votes.
            on_step: called with the number of each step done; may raise to stop.

        Raises:
            RequestError: for a video that cannot be read, as in the server.
        """
        defended, settings = self._loaded.defended, self._loaded.settings
        recogniser = defended.recogniser
        clip = read_for_recogniser(video, recogniser, settings.limits, read=self._decoder.read)

        def logits(clips: Tensor) -> Tensor:
            if knows == "recogniser":
                return recogniser.logits(clips)
            return soft_vote(defended.votes(clips))

        with self._lock:
            clean = clip.frames[None].to(next(defended.parameters()).device)
            before, label = _told(logits, clean, recogniser.labels)

            def loss(clips: Tensor) -> Tensor:
                values = logits(clips)
                won = lead(values, label) < -_CLEAR
                return cross_entropy(values, label).masked_fill(won, torch.inf)

            done = 0

            def count() -> None:
                nonlocal done
                done += 1
                on_step(done)

            moved = pgd(
                loss,
                clean,
                epsilon=epsilon / 255,
                steps=steps,
                step_size=max(epsilon / 4, 0.5) / 255,
                generator=torch.Generator().manual_seed(0),
                on_step=count,
            )
            pixels = (moved * 255).round()
            after, _ = _told(logits, pixels / 255, recogniser.labels)
        largest = int((pixels - clean * 255).abs().max().round())
        frames = as_sent(pixels[0].cpu(), recogniser.framing)
        rate = (clip.info.fps or 8.0) * len(clip.info.frame_indices) / clip.info.frames
        return Attacked(_encode(frames, rate), before, after, largest)


@torch.no_grad()
def _told(
    logits: Callable[[Tensor], Tensor], clip: Tensor, labels: Sequence[str]
) -> tuple[tuple[str, float], Tensor]:
    """Label and score of a clip [1, T, 3, H, W], and the label's number [1]."""
    score, number = logits(clip).softmax(dim=1).max(dim=1)
    return (labels[int(number)], float(score)), number


def as_sent(frames: Tensor, framing: Framing) -> Tensor:
    """Frames with a border, so that the server's scaling and cropping return them unchanged.

    Args:
        frames: [T, 3, H, W] of `framing.size`.
        framing: framing of the recogniser.

    Returns:
        [T, 3, H', W'], the frames in the middle and their edges repeated around them.
    """
    height, width = framing.size
    whole = framing.resize or framing.size
    full_height, full_width = (whole, whole) if isinstance(whole, int) else whole
    top, left = framing.offset(full_height, height), framing.offset(full_width, width)
    border = (left, full_width - width - left, top, full_height - height - top)
    return F.pad(frames, border, mode="replicate")


def _encode(frames: Tensor, rate: float) -> bytes:
    """A lossless mp4 of frames [T, 3, H, W] in 0..255."""
    pixels = frames.byte().permute(0, 2, 3, 1).numpy()  # [T, H, W, 3]
    fps = round(min(_FASTEST, max(_SLOWEST, rate)))
    with tempfile.TemporaryDirectory(prefix="videopure-web-") as folder:
        return write_video(pixels, Path(folder) / "attacked.mp4", fps=fps).read_bytes()
