"""Expectation over transformation: the loss of a randomised defence (EOT, arXiv 1707.07397)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from videopure.evaluation.attacks.losses import Votes, counted

__all__ = ["EOTLoss"]


class EOTLoss:
    """The loss of a whole defence, averaged over its randomness, until the attack succeeds.

    The mean over `draws` of the defence's randomness, drawn again at every call (expectation over
    transformation, EOT: arXiv 1707.07397). Where the counted votes of all these draws are wrong,
    `reached` checks the clips, and the loss of those that pass is infinite.

    Args:
        votes: the votes of the defence under attack.
        value: clips and their votes -> the value to raise, [B].
        labels: true classes, [B].
        draws: number of draws; one is enough if nothing is random.
        generator: generator of the draws.
        reached: clips and their rows in the batch, [N, T, 3, H, W] and [N] -> whether the clips are
            done, [N]; None never ends the attack early.
    """

    def __init__(
        self,
        votes: Votes,
        value: Callable[[Tensor, Sequence[Tensor]], Tensor],
        labels: Tensor,
        *,
        draws: int = 1,
        generator: Generator | None = None,
        reached: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        self._votes, self._value, self._labels = votes, value, labels
        self._draws, self._generator, self._reached = draws, generator, reached

    def __call__(self, clips: Tensor) -> Tensor:
        """The loss [B] of clips [B, T, 3, H, W]."""
        seeds = torch.randint(2**62, (self._draws, len(clips)), generator=self._generator)
        values = []
        fooled = torch.ones(len(clips), dtype=torch.bool, device=clips.device)
        for row in seeds.tolist():
            votes = self._votes(clips, row)
            values.append(self._value(clips, votes))
            fooled &= counted(votes) != self._labels
        mean = torch.stack(values).mean(dim=0)
        rows = fooled.nonzero().flatten()
        if self._reached is None or not len(rows):
            return mean
        done = torch.zeros_like(fooled)
        done[rows] = self._reached(clips[rows].detach(), rows)
        return mean.masked_fill(done, torch.inf)
