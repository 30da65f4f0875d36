"""All exact-gradient attacks, each on the clips that the earlier ones left (arXiv 2003.01690).

One record per clip says whether it survives them all: the worst case, at less than the summed cost.
"""

from __future__ import annotations

from functools import partial
from itertools import chain

from torch import Tensor

from videopure.evaluation.attacks import adaptive, apgd_targeted, low_frequency, mi_fgsm
from videopure.evaluation.attacks.restarts import strongest
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Task

__all__ = ["ATTACKS", "ORDER"]

# The cheapest of the strong ones first. The second starts from random clips, the others from the
# gray-box result.
ORDER = ("exact", "exact low frequency", "exact momentum", "exact APGD-CE", "exact APGD-T")


def _every(task: Task, steps: int, draws: int) -> Tensor:
    """One attack after another, until one succeeds."""
    files = (adaptive, low_frequency, mi_fgsm, apgd_targeted)
    attacks = {attack.name: attack for attack in chain(*(file.ATTACKS for file in files))}

    def attempt(part: Task, _rows: Tensor, *, name: str) -> Tensor:
        return attacks[name].run(part, steps, draws)

    return strongest(task, draws, (partial(attempt, name=name) for name in ORDER))


ATTACKS = (AdaptiveAttack("exact ensemble", _every),)
