"""APGD-T: APGD towards one wrong class after another (Croce and Hein, arXiv 2003.01690)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from videopure.evaluation.attacks.adaptive import soft_loss
from videopure.evaluation.attacks.apgd import apgd
from videopure.evaluation.attacks.pgd import pgd_on_recogniser
from videopure.evaluation.attacks.restarts import strongest
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Task

__all__ = ["ATTACKS", "targeted_dlr"]

TARGETS = 9  # classes to try, the likeliest first: all wrong ones of ten


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The targeted difference of logits ratio, [B]; above 0 where the target leads.

    How far a target trails the true class, divided by the distance from the first logit to the mean
    of the third and fourth: invariant to scale and shift of the logits. With fewer than four
    classes it is the difference alone.

    Args:
        logits: [B, classes].
        labels, targets: true and wrong classes, [B].
    """
    true, wanted = (logits.gather(1, k[:, None]).flatten() for k in (labels, targets))
    if logits.shape[1] < 4:
        return wanted - true
    first, _, third, fourth = logits.topk(4, dim=1).values.unbind(1)
    return (wanted - true) / (first - (third + fourth) / 2 + 1e-12)


def _exact(task: Task, steps: int, draws: int) -> Tensor:
    """APGD with the true gradient towards the likeliest wrong classes, until one succeeds."""
    with torch.no_grad():
        ranked = task.target.logits(task.clips, [0] * len(task.clips))
    ranked = ranked.scatter(1, task.labels[:, None], -torch.inf)
    classes = ranked.argsort(dim=1, descending=True)[:, : min(TARGETS, ranked.shape[1] - 1)]
    start = pgd_on_recogniser(task)

    def towards(part: Task, rows: Tensor, *, targets: Tensor) -> Tensor:
        return apgd(
            soft_loss(part, draws, partial(targeted_dlr, targets=targets[rows])),
            part.clips,
            epsilon=part.epsilon,
            steps=steps,
            start=start[rows],
        )

    return strongest(task, draws, [partial(towards, targets=t) for t in classes.unbind(1)])


ATTACKS = (AdaptiveAttack("exact APGD-T", _exact),)
