"""MI-FGSM: iterated gradient signs with momentum (Dong et al., arXiv 1710.06081)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videopure.evaluation.attacks.base import GradientAttack
from videopure.evaluation.attacks.losses import Loss
from videopure.evaluation.attacks.threat_models import Attack

__all__ = ["ATTACKS", "mi_fgsm"]


def mi_fgsm(
    loss: Loss,
    clips: Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float = 2 / 255,
    decay: float = 1.0,
) -> Tensor:
    """Steps along the sign of all gradients so far, from the clips as they came.

    The published step is `epsilon / steps`, which only just reaches the budget and fools fewer
    clips than PGD does; here it is as long as PGD's.

    Args:
        loss: to be raised.
        clips: [B, T, 3, H, W] in 0..1.
        epsilon: largest change of a pixel (L-inf), in 0..1.
        steps: gradient steps.
        step_size: change of a pixel in one step, in 0..1.
        decay: of the momentum; 0 forgets all gradients but the last.
    """
    return _MIFGSM(
        loss, clips, epsilon=epsilon, steps=steps, step_size=step_size, decay=decay
    ).run()


class _MIFGSM(GradientAttack):
    def __init__(self, loss: Loss, clips: Tensor, *, decay: float, **budget: Any) -> None:
        super().__init__(loss, clips, **budget)
        self._decay, self._momentum = decay, torch.zeros_like(clips)

    def start(self) -> Tensor:
        return self.clips

    def direction(self, grad: Tensor) -> Tensor:
        size = grad.abs().mean(dim=(1, 2, 3, 4), keepdim=True).clamp_min(1e-20)
        self._momentum = self._decay * self._momentum + grad / size
        return self._momentum.sign()


ATTACKS = (
    Attack("MI-FGSM", "gray-box", lambda t: mi_fgsm(t.bare_loss(), t.clips, epsilon=t.epsilon)),
)
