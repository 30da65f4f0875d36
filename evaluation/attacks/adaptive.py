"""Adaptive attacks: on a defence that the attacker has completely (after arXiv 2002.08347).

If the defence is randomised, every gradient is the mean over fresh draws.

An attack runs no longer than needed: a clip is done when the defence, run as it is served, gives a
wrong answer to the clip as it will be stored; a randomised defence must do so in `CHECKS` fresh
draws in a row, and `label and suspicion` continues until the answer is also not called adversarial.
The report shows the answer to the result, with other seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from videopure.evaluation.attacks.apgd import apgd
from videopure.evaluation.attacks.eot import EOTLoss
from videopure.evaluation.attacks.losses import (
    Loss,
    LossKind,
    Votes,
    cross_entropy,
    evasion,
    margin,
    soft_vote,
)
from videopure.evaluation.attacks.pgd import pgd, pgd_on_recogniser
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Task, Threat, as_stored

__all__ = ["ATTACKS", "eot_loss", "soft_loss", "unbounded"]

STEPS = 20
# Fresh draws that must all be fooled before a clip is done; one if nothing is random.
CHECKS = 4


def _bpda(task: Task, steps: int, draws: int) -> Tensor:
    """PGD with the purifier treated as the identity."""
    return _descend(task, _bpda_loss(task, draws), steps)


def _exact(task: Task, steps: int, draws: int) -> Tensor:
    """PGD with the true gradient through the whole defence."""
    return _descend(task, soft_loss(task, draws), steps)


def _exact_apgd(task: Task, steps: int, draws: int) -> Tensor:
    """APGD with the true gradient and the margin loss."""
    return apgd(
        soft_loss(task, draws, margin),
        task.clips,
        epsilon=task.epsilon,
        steps=steps,
        start=pgd_on_recogniser(task),
    )


def _exact_apgd_ce(task: Task, steps: int, draws: int) -> Tensor:
    """APGD with the true gradient and cross-entropy."""
    return apgd(
        soft_loss(task, draws),
        task.clips,
        epsilon=task.epsilon,
        steps=steps,
        start=pgd_on_recogniser(task),
    )


def _label_and_suspicion(task: Task, steps: int, draws: int) -> Tensor:
    """PGD with the true gradient, until the label is wrong and no alarm is raised."""
    return _descend(task, _evasion_loss(task, draws), steps)


ATTACKS = (
    AdaptiveAttack("BPDA", _bpda),
    AdaptiveAttack("exact", _exact),
    AdaptiveAttack("exact APGD", _exact_apgd),
    AdaptiveAttack("exact APGD-CE", _exact_apgd_ce),
    AdaptiveAttack("label and suspicion", _label_and_suspicion),
)


def unbounded(steps: int = STEPS) -> Threat:
    """Any pixel may take any value: a defence that survives this hides its gradient."""

    def attack(task: Task) -> Tensor:
        alone = task.one_by_one()
        return torch.cat([_descend(t, soft_loss(t, 1, margin), steps) for t in alone])

    return Threat("unbounded", "adaptive", 255, attack)


def _descend(task: Task, loss: Loss, steps: int) -> Tensor:
    """PGD from the gray-box result, with steps of a quarter of the budget.

    The best clips on the way are kept if the loss is deterministic.
    """
    return pgd(
        loss,
        task.clips,
        epsilon=task.epsilon,
        steps=steps,
        step_size=task.epsilon / 4,
        start=pgd_on_recogniser(task),
        keep_best=not task.target.randomised,
    )


def soft_loss(task: Task, draws: int, kind: LossKind = cross_entropy) -> Loss:
    """Loss of the soft vote, with the true gradient where there is one."""
    votes = task.target.votes if task.target.exact else task.target.bpda()

    def value(clips: Tensor, ballots: Sequence[Tensor]) -> Tensor:
        return kind(soft_vote(ballots), task.labels)

    return eot_loss(task, votes, value, draws)


def _bpda_loss(task: Task, draws: int) -> Loss:
    """The mean loss over the votes, with the purifier treated as the identity, as in the paper."""

    def value(clips: Tensor, ballots: Sequence[Tensor]) -> Tensor:
        pairs = zip(ballots, task.labels, strict=True)
        return torch.stack([cross_entropy(b, y.expand(len(b))).mean() for b, y in pairs])

    return eot_loss(task, task.target.bpda(), value, draws)


def _evasion_loss(task: Task, draws: int) -> Loss:
    """A wrong label and no suspicion."""

    def value(clips: Tensor, ballots: Sequence[Tensor]) -> Tensor:
        return evasion(task.recogniser.logits(clips), ballots, task.labels)

    return eot_loss(task, task.target.votes, value, draws, silent=True)


def eot_loss(
    task: Task,
    votes: Votes,
    value: Callable[[Tensor, Sequence[Tensor]], Tensor],
    draws: int,
    *,
    silent: bool = False,
) -> EOTLoss:
    target = task.target

    def reached(clips: Tensor, rows: Tensor) -> Tensor:
        """Wrong, and not called adversarial if `silent`, in every check."""
        labels = task.labels[rows].tolist()
        done = [True] * len(labels)
        for _ in range(CHECKS if target.randomised else 1):
            seeds = torch.randint(2**62, (len(labels),), generator=task.generator).tolist()
            answers = target.answer(as_stored(clips), seeds)
            for k, (answer, label) in enumerate(zip(answers, labels, strict=True)):
                done[k] &= answer.label_id != label and not (silent and target.alarms(answer))
            if not any(done):
                break
        return torch.tensor(done, device=clips.device)

    return EOTLoss(
        votes,
        value,
        task.labels,
        draws=draws if target.randomised else 1,
        generator=task.generator,
        reached=reached,
    )
