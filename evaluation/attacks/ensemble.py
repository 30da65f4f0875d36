"""All exact-gradient attacks, each on the clips that those before it left (arXiv 2003.01690).

One record for each clip says whether it survives them all: the worst case, for less than the sum.
"""

from __future__ import annotations

from functools import partial
from itertools import chain

from torch import Tensor

from videopure.evaluation.attacks import adaptive, apgd_targeted, low_frequency, mi_fgsm
from videopure.evaluation.attacks.adaptive import soft_loss
from videopure.evaluation.attacks.restarts import strongest
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Task

__all__ = ["ATTACKS", "ORDER"]

# The cheapest of the strong ones first. The second starts from random clips, the others from the
# gray-box result.
ORDER = ("exact", "exact low frequency", "exact momentum", "exact APGD-CE", "exact APGD-T")


def _every(task: Task, steps: int, draws: int) -> Tensor:
    """One attack after the other, until one succeeds."""
    files = (adaptive, low_frequency, mi_fgsm, apgd_targeted)
    attacks = {attack.name: attack for attack in chain(*(file.ATTACKS for file in files))}
    attempts = (partial(attacks[name].run, task, steps, draws) for name in ORDER)
    return strongest(soft_loss(task, draws), attempts)


ATTACKS = (AdaptiveAttack("exact ensemble", _every),)
