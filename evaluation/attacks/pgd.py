"""PGD: projected gradient descent (Madry et al., arXiv 1706.06083)."""

from __future__ import annotations

from torch import Generator, Tensor

from videopure.evaluation.attacks.base import GradientAttack, OnStep
from videopure.evaluation.attacks.losses import Loss
from videopure.evaluation.attacks.threat_models import Attack, Task

__all__ = ["ATTACKS", "pgd", "pgd_on_recogniser"]


def pgd(
    loss: Loss,
    clips: Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float = 2 / 255,
    start: Tensor | None = None,
    keep_best: bool = False,
    generator: Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Steps along the sign of the gradient, each followed by a projection.

    A clip of infinite loss is done: it is not changed any more, and when all are done, PGD ends.

    Args:
        loss: the loss to raise.
        clips: [B, T, 3, H, W] in 0..1.
        epsilon: largest change of a pixel (L-inf), in 0..1.
        steps: gradient steps.
        step_size: change of a pixel in one step, in 0..1.
        start: attacked clips to continue from (a warm start); drawn at random when None.
        keep_best: return the clips with the highest loss on the way instead of the last ones, at
            the cost of one more evaluation of the loss.
        generator: generator of the random start.
        on_step: called after every step, for progress.
    """
    return GradientAttack(
        loss,
        clips,
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        warm_start=start,
        keep_best=keep_best,
        generator=generator,
        on_step=on_step,
    ).run()


def pgd_on_recogniser(task: Task, steps: int = 10) -> Tensor:
    """PGD on the bare recogniser, from a random start."""
    return pgd(
        task.bare_loss(), task.clips, epsilon=task.epsilon, steps=steps, generator=task.generator
    )


ATTACKS = (
    Attack("PGD-10", "gray-box", pgd_on_recogniser),
    Attack("PGD-50", "gray-box", lambda task: pgd_on_recogniser(task, steps=50)),
)
