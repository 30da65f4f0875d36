"""All attacks by name; see docs/evaluation.md for how to add one."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from videopure.evaluation.attacks.adaptive import STEPS
from videopure.evaluation.attacks.threat_models import EOT_DRAWS, AdaptiveAttack, Attack, Threat

__all__ = ["FILES", "adaptive", "registered", "static"]

# Files of this folder, each with its `ATTACKS`. A new one adds a line here; tables keep the order.
FILES = (
    "pgd",
    "apgd",
    "mi_fgsm",
    "flickering",
    "sparse_frames",
    "transfer",
    "square",
    "low_frequency",
    "adaptive",
    "restarts",
    "apgd_targeted",
    "ensemble",
)


def registered() -> dict[str, Attack | AdaptiveAttack]:
    """All attacks, by their name in tables.

    Raises:
        ValueError: if two have the same name.
    """
    found: dict[str, Attack | AdaptiveAttack] = {}
    for file in FILES:
        attacks: Iterable[Attack | AdaptiveAttack]
        attacks = import_module(f"{__package__}.{file}").ATTACKS
        for attack in attacks:
            if attack.name in found:
                raise ValueError(f"{file}.py: there is an attack named {attack.name!r} already")
            found[attack.name] = attack
    return found


def static(epsilon: int) -> dict[str, Threat]:
    """Attacks that do not know the defence, by family.

    Args:
        epsilon: largest change of a pixel, in 1/255.
    """
    attacks = registered().values()
    return {a.name: a.at(epsilon) for a in attacks if isinstance(a, Attack)}


def adaptive(epsilon: int, steps: int = STEPS, draws: int = EOT_DRAWS) -> dict[str, Threat]:
    """Attacks that have the whole defence, by family.

    Args:
        epsilon: largest change of a pixel, in 1/255.
        steps: gradient steps.
        draws: draws of the defence's randomness for each gradient.
    """
    attacks = registered().values()
    threats = (a.at(epsilon, steps, draws) for a in attacks if isinstance(a, AdaptiveAttack))
    return {threat.family: threat for threat in threats}
