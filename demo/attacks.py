"""The attack that the demo shows: projected gradient descent on the bare recogniser."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["pgd"]


def pgd(
    logits: Callable[[Tensor], Tensor],
    clips: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float = 2 / 255,
    generator: torch.Generator | None = None,
    on_step: Callable[[], object] | None = None,
) -> Tensor:
    """Untargeted PGD with a random start (Madry et al., arXiv 1706.06083).

    Args:
        logits: the model under attack, clips -> [B, classes].
        clips: [B, T, 3, H, W] in 0..1.
        labels: true classes, [B].
        epsilon: largest change of a pixel (L-inf), in 0..1.
        steps: gradient steps.
        step_size: change of a pixel in one step.
        generator: of the random start.
        on_step: called after every step, for progress.

    Returns:
        Attacked clips, like `clips`, within `epsilon` of them and in 0..1.
    """
    start = torch.rand(clips.shape, generator=generator).to(clips) * 2 - 1
    attacked = (clips + epsilon * start).clamp(0, 1)
    for _ in range(steps):
        attacked = attacked.detach().requires_grad_()
        loss = F.cross_entropy(logits(attacked), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, attacked)
        moved = attacked + step_size * gradient.sign()
        attacked = torch.clamp(moved, clips - epsilon, clips + epsilon).clamp(0, 1)
        if on_step is not None:
            on_step()
    return attacked.detach()
