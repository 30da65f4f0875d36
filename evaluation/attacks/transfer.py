"""Transfer: PGD on another recogniser with the same classes (Papernot et al., arXiv 1605.07277)."""

from __future__ import annotations

from torch import Tensor

from videopure.evaluation.attacks.losses import label_loss
from videopure.evaluation.attacks.pgd import pgd
from videopure.evaluation.attacks.threat_models import Attack, Task

__all__ = ["ATTACKS", "transfer"]


def transfer(task: Task) -> Tensor:
    """PGD-10 on the task's second recogniser.

    Raises:
        ValueError: if there is none.
    """
    if task.transfer is None:
        raise ValueError("a transfer attack needs a second recogniser, got None")
    loss = label_loss(task.transfer.logits, task.labels)
    return pgd(loss, task.clips, epsilon=task.epsilon, generator=task.generator)


ATTACKS = (Attack("transfer", "black-box", transfer),)
