"""RayS: an attack that uses labels alone (Chen and Gu, arXiv 2006.12792)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

__all__ = ["rays"]

TOLERANCE = 1e-3  # of the radius, as published

# Clips and their rows in the batch -> whether the answer is wrong, [N].
Wrong = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def rays(
    wrong: Wrong,
    clips: Tensor,
    *,
    epsilon: float,
    queries: int,
    generator: Generator | None = None,
) -> Tensor:
    """Find the direction of signs in which the label flips nearest to the clip.

    One block of signs is flipped at a time, the whole clip first, then its halves, quarters and so
    on; if the answer is still wrong at the best radius so far, bisection narrows the radius down.
    As published, except for the first direction, which is drawn for each channel of each frame
    instead of being all positive. A clip is done when its radius is at most `epsilon`.

    Args:
        wrong: the model under attack.
        clips: [B, T, 3, H, W] in 0..1.
        epsilon: largest change of a pixel (L-inf), in 0..1. Queries on the way may change more.
        queries: at most this many queries per clip.
        generator: generator of the first directions.

    Returns:
        Attacked clips, like `clips`, within `epsilon` even if no label flipped there.
    """
    signs = 2.0 * torch.randint(2, (*clips.shape[:3], 1, 1), generator=generator) - 1
    searches = [
        _Ray(clip, first.expand_as(clip).to(clip), epsilon)
        for clip, first in zip(clips, signs, strict=True)
    ]
    for _ in range(queries):
        rows = [k for k, search in enumerate(searches) if not search.done]
        if not rows:
            break
        asked = torch.stack([searches[k].ask() for k in rows])
        for k, flipped in zip(rows, wrong(asked, torch.tensor(rows)).tolist(), strict=True):
            searches[k].tell(flipped)
    return torch.stack([search.found() for search in searches])


class _Ray:
    """The search on one clip, which asks one question at a time.

    Args:
        clip: [T, 3, H, W].
        direction: direction of signs, like the clip.
        epsilon: radius at which the search is done.
    """

    def __init__(self, clip: Tensor, direction: Tensor, epsilon: float) -> None:
        self._clip, self._epsilon = clip, epsilon
        self._best, self._radius = direction, 1.0  # at 1 every pixel is black or white
        self._tried = direction
        self._low: float | None = None  # lower end of a running bisection
        self._high = 1.0
        self._blocks, self._block = 1, 0

    @property
    def done(self) -> bool:
        """Whether the label flips within the budget."""
        return self._radius <= self._epsilon

    def ask(self) -> Tensor:
        """The next clip to query."""
        if self._low is None:
            return self._at(self._tried, self._radius)
        return self._at(self._tried, self._middle())

    def tell(self, wrong: bool) -> None:
        """Take the answer to it."""
        if self._low is None:
            if not wrong:
                return self._turn()
            self._low, self._high = 0.0, self._radius
        elif wrong:
            self._high = self._middle()
        else:
            self._low = self._middle()
        if self._high - self._low <= TOLERANCE or self._high <= self._epsilon:
            self._best, self._radius, self._low = self._tried, self._high, None
            self._turn()
        return None

    def found(self) -> Tensor:
        """The attacked clip within the budget."""
        return self._at(self._best, min(self._radius, self._epsilon))

    def _middle(self) -> float:
        return (self._low or 0.0) / 2 + self._high / 2

    def _at(self, direction: Tensor, radius: float) -> Tensor:
        return (self._clip + radius * direction).clamp(0, 1)

    def _turn(self) -> None:
        """Flip the next block of the best direction; the whole clip first, then smaller parts."""
        size = -(-self._clip.numel() // self._blocks)
        flipped = self._best.flatten().clone()
        start = self._block * size
        flipped[start : start + size] *= -1
        self._tried = flipped.view_as(self._clip)
        self._block += 1
        if self._block * size >= self._clip.numel():
            self._blocks, self._block = min(2 * self._blocks, self._clip.numel()), 0
