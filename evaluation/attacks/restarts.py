"""The same search from several starts: what one start misses (arXiv 1902.06705, section 4.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from videopure.evaluation.attacks.adaptive import soft_loss
from videopure.evaluation.attacks.base import choose
from videopure.evaluation.attacks.losses import Loss
from videopure.evaluation.attacks.pgd import pgd, pgd_on_recogniser
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Task

__all__ = ["ATTACKS", "strongest"]

STARTS = (2, 5)


def strongest(loss: Loss, attempts: Iterable[Callable[[], Tensor]]) -> Tensor:
    """For each clip the attempt of the highest loss; no further one where all losses are infinite.

    Args:
        loss: clips [B, T, 3, H, W] -> [B].
        attempts: each makes attacked clips, like the others'.
    """
    kept: Tensor | None = None
    values = torch.empty(0)
    for attempt in attempts:
        attacked = attempt()
        with torch.no_grad():
            found = loss(attacked)
        if kept is None:
            kept, values = attacked, found
        better = found > values
        kept = choose(better, attacked, kept)
        values = torch.where(better, found, values)
        if torch.isinf(values).all():
            break
    if kept is None:
        raise ValueError("attempts must hold at least one, got none")
    return kept


def _exact(task: Task, steps: int, draws: int, *, starts: int) -> Tensor:
    """PGD with the true gradient: from the gray-box result, then from random clips."""
    loss = soft_loss(task, draws)

    def attempt(number: int) -> Tensor:
        first = number == 0
        return pgd(
            loss,
            task.clips,
            epsilon=task.epsilon,
            steps=steps,
            step_size=task.epsilon / 4,
            start=pgd_on_recogniser(task) if first else None,
            keep_best=not task.target.randomised,
            generator=task.generator,
        )

    return strongest(loss, [partial(attempt, number) for number in range(starts)])


ATTACKS = tuple(
    AdaptiveAttack(f"exact from {starts} starts", partial(_exact, starts=starts))
    for starts in STARTS
)
