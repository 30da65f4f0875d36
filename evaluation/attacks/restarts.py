"""The same search from several starts, as one start may miss some clips (arXiv 1902.06705, section
4.6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from videopure.evaluation.attacks.adaptive import soft_loss
from videopure.evaluation.attacks.pgd import pgd, pgd_on_recogniser
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Task

__all__ = ["ATTACKS", "Attempt", "strongest"]

STARTS = (2, 5)

# A task with some of the clips, and their rows in the whole batch [N] -> attacked clips.
Attempt = Callable[[Task, Tensor], Tensor]


def strongest(task: Task, draws: int, attempts: Iterable[Attempt]) -> Tensor:
    """For each clip the attempt with the highest loss; each attempt gets what earlier ones left.

    Args:
        task: all clips.
        draws: draws for each value of the loss, for a randomised defence.
        attempts: in order; a clip whose loss is infinite is done (see `EOTLoss`).
    """
    kept = task.clips.clone()
    values = torch.full((len(kept),), -torch.inf, device=kept.device)
    for attempt in attempts:
        left = (values < torch.inf).nonzero().flatten()
        if not len(left):
            break
        part = task.rows(left)
        attacked = attempt(part, left)
        with torch.no_grad():
            found = soft_loss(part, draws)(attacked).to(values)
        better = found > values[left]
        kept[left[better]] = attacked[better]
        values[left[better]] = found[better]
    return kept


def _exact(task: Task, steps: int, draws: int, *, starts: int) -> Tensor:
    """PGD with the true gradient: from the gray-box result, then from random clips."""

    def attempt(part: Task, _rows: Tensor, *, first: bool) -> Tensor:
        return pgd(
            soft_loss(part, draws),
            part.clips,
            epsilon=part.epsilon,
            steps=steps,
            step_size=part.epsilon / 4,
            start=pgd_on_recogniser(part) if first else None,
            keep_best=not part.target.randomised,
            generator=part.generator,
        )

    return strongest(task, draws, [partial(attempt, first=not number) for number in range(starts)])


ATTACKS = tuple(
    AdaptiveAttack(f"exact from {starts} starts", partial(_exact, starts=starts))
    for starts in STARTS
)
