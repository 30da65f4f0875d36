"""MI-FGSM: iterative gradient signs with momentum (Dong et al., arXiv 1710.06081)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videopure.evaluation.attacks.adaptive import soft_loss
from videopure.evaluation.attacks.base import GradientAttack
from videopure.evaluation.attacks.losses import Loss, margin
from videopure.evaluation.attacks.pgd import pgd_on_recogniser
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Attack, Task

__all__ = ["ATTACKS", "mi_fgsm"]


def mi_fgsm(
    loss: Loss,
    clips: Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float = 2 / 255,
    decay: float = 1.0,
    start: Tensor | None = None,
    keep_best: bool = False,
) -> Tensor:
    """Steps along the sign of all gradients so far, from the clean clips.

    The published step is `epsilon / steps`, which barely reaches the budget and fools fewer clips
    than PGD; here the step is as long as PGD's.

    Args:
        loss: the loss to raise.
        clips: [B, T, 3, H, W] in 0..1.
        epsilon: largest change of a pixel (L-inf), in 0..1.
        steps: gradient steps.
        step_size: change of a pixel in one step, in 0..1.
        decay: decay of the momentum; 0 forgets all gradients but the last.
        start: attacked clips to continue from; the clean clips when None.
        keep_best: return the clips with the highest loss on the way instead of the last ones.
    """
    return _MIFGSM(
        loss,
        clips,
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        decay=decay,
        warm_start=clips if start is None else start,
        keep_best=keep_best,
    ).run()


class _MIFGSM(GradientAttack):
    def __init__(self, loss: Loss, clips: Tensor, *, decay: float, **budget: Any) -> None:
        super().__init__(loss, clips, **budget)
        self._decay, self._momentum = decay, torch.zeros_like(clips)

    def direction(self, grad: Tensor) -> Tensor:
        size = grad.abs().mean(dim=(1, 2, 3, 4), keepdim=True).clamp_min(1e-20)
        self._momentum = self._decay * self._momentum + grad / size
        return self._momentum.sign()


def _on_defence(task: Task, steps: int, draws: int) -> Tensor:
    """The true gradient of the margin, from the gray-box result."""
    return mi_fgsm(
        soft_loss(task, draws, margin),
        task.clips,
        epsilon=task.epsilon,
        steps=steps,
        step_size=task.epsilon / 4,
        start=pgd_on_recogniser(task),
        keep_best=not task.target.randomised,
    )


ATTACKS = (
    Attack("MI-FGSM", "gray-box", lambda t: mi_fgsm(t.bare_loss(), t.clips, epsilon=t.epsilon)),
    AdaptiveAttack("exact momentum", _on_defence),
)
