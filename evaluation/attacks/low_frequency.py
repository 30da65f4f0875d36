"""Low frequencies only: perturbations that filters, codecs and purifiers let through.

A purifier treats fine noise as noise and smooth changes as content (arXiv 1809.08758, 1903.00073).
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from videopure.evaluation.attacks.adaptive import soft_loss
from videopure.evaluation.attacks.base import Budget, GradientAttack
from videopure.evaluation.attacks.losses import Loss
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Attack, Task

__all__ = ["ATTACKS", "low_frequency"]

CELLS = (2, 8, 8)  # frames, rows and columns that share one number


def low_frequency(
    loss: Loss, clips: Tensor, cells: tuple[int, int, int] = CELLS, **budget: Unpack[Budget]
) -> Tensor:
    """PGD on a coarse grid of changes, which is interpolated to the clip.

    Args:
        loss: the loss to raise.
        clips: [B, T, 3, H, W] in 0..1.
        cells: frames, rows and columns of the clip for each number of the grid.
        budget: see `GradientAttack`; a step changes a number of the grid by `step_size`.
    """
    return _LowFrequency(loss, clips, cells, **budget).run()


class _LowFrequency(GradientAttack):
    """The search on the grid, [B, 3, t, h, w]."""

    _grid: Tensor

    def __init__(
        self, loss: Loss, clips: Tensor, cells: tuple[int, int, int], **budget: Unpack[Budget]
    ) -> None:
        super().__init__(loss, clips, **budget)
        batch, frames, channels, height, width = clips.shape
        size = [-(-n // cell) for n, cell in zip((frames, height, width), cells, strict=True)]
        self._shape = (batch, channels, *size)

    def start(self) -> Tensor:
        """A grid drawn at random."""
        drawn = torch.rand(self._shape, generator=self.generator).to(self.clips)
        self._grid = self.epsilon * (2 * drawn - 1)
        return self._changed()

    def step(self, attacked: Tensor, values: Tensor, grad: Tensor) -> Tensor:
        """Along the sign of the gradient with respect to the grid."""
        with torch.enable_grad():
            grid = self._grid.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._smooth(grid), grid, grad)
        moved = self._grid + self.step_size * slope.sign()
        self._grid = moved.clamp(-self.epsilon, self.epsilon)
        return self._changed()

    def _smooth(self, grid: Tensor) -> Tensor:
        """The interpolated grid, like the clips; interpolation enlarges no value."""
        frames, _, height, width = self.clips.shape[1:]
        smooth = F.interpolate(grid, (frames, height, width), mode="trilinear")
        return smooth.transpose(1, 2)  # [B, T, 3, H, W]

    def _changed(self) -> Tensor:
        return (self.clips + self._smooth(self._grid)).clamp(0, 1)


def _on_recogniser(task: Task) -> Tensor:
    return low_frequency(
        task.bare_loss(),
        task.clips,
        epsilon=task.epsilon,
        step_size=task.epsilon / 8,
        generator=task.generator,
    )


def _on_defence(task: Task, steps: int, draws: int) -> Tensor:
    return low_frequency(
        soft_loss(task, draws),
        task.clips,
        epsilon=task.epsilon,
        steps=steps,
        step_size=task.epsilon / 4,
        keep_best=not task.target.randomised,
        generator=task.generator,
    )


ATTACKS = (
    Attack("low frequency", "gray-box", _on_recogniser),
    AdaptiveAttack("exact low frequency", _on_defence),
)
