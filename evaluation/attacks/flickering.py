"""Flickering: one change of colour for each whole frame (Pony et al., arXiv 2002.05123)."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from videopure.evaluation.attacks.base import Budget, GradientAttack
from videopure.evaluation.attacks.losses import Loss
from videopure.evaluation.attacks.threat_models import Attack, Task

__all__ = ["ATTACKS", "flickering"]

STEPS = 25  # used by the suites


def flickering(loss: Loss, clips: Tensor, **budget: Unpack[Budget]) -> Tensor:
    """Optimise an offset for each channel of each frame, from a random one.

    The published attack weighs visibility against the label; here only `epsilon` bounds it, as for
    the other attacks.

    Args:
        loss: the loss to raise.
        clips: [B, T, 3, H, W] in 0..1.
        budget: see `GradientAttack`; a step changes an offset by `step_size`, 1/255 by default.
    """
    budget.setdefault("step_size", 1 / 255)
    return _Flickering(loss, clips, **budget).run()


class _Flickering(GradientAttack):
    _offsets: Tensor  # [B, T, 3, 1, 1]

    def start(self) -> Tensor:
        offsets = self.clips.new_zeros((*self.clips.shape[:3], 1, 1))
        drawn = torch.rand(offsets.shape, generator=self.generator).to(self.clips)
        self._offsets = offsets + self.epsilon * (drawn * 2 - 1)
        return (self.clips + self._offsets).clamp(0, 1)

    def step(self, attacked: Tensor, values: Tensor, grad: Tensor) -> Tensor:
        direction = grad.sum(dim=(3, 4), keepdim=True).sign()
        moved = self._offsets + self.step_size * direction
        self._offsets = moved.clamp(-self.epsilon, self.epsilon)
        return (self.clips + self._offsets).clamp(0, 1)


def _on_recogniser(task: Task) -> Tensor:
    return flickering(
        task.bare_loss(), task.clips, epsilon=task.epsilon, steps=STEPS, generator=task.generator
    )


ATTACKS = (Attack("flickering", "gray-box", _on_recogniser),)
