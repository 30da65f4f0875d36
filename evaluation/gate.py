"""Minimums that an evaluation must reach, for a build that fails if it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from videopure.evaluation.plan import Planned, Suite
from videopure.evaluation.store import EvaluationError

__all__ = ["GateError", "Minimum", "check_names", "shortfalls"]

_WORST = "worst case "  # and the budget, such as 4/255
_FORM = (
    "fail_under must be [DEFENCE: ]THREAT=SHARE, such as 'worst case 4/255=0.8', 'clean=0.97' or "
    "'none: PGD-10 4/255=0.1', with a share from 0 to 1"
)


class GateError(EvaluationError):
    """No such figure exists."""


@dataclass(frozen=True)
class Minimum:
    """The smallest share of clips that must be recognised.

    Args:
        threat: its name, or "worst case 4/255" for all attacks of at most that budget together.
        share: in 0..1.
        defence: a row of the tables; None for what the archive serves.
    """

    threat: str
    share: float
    defence: str | None = None

    @classmethod
    def parse(cls, text: str) -> Minimum:
        """Read `[DEFENCE: ]THREAT=SHARE`.

        Raises:
            GateError: naming the text, and the form that it must have.
        """
        name, _, number = text.rpartition("=")
        defence, colon, threat = name.strip().rpartition(": ")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not threat or not 0 <= share <= 1:
            raise GateError(f"{_FORM}, got {text!r}")
        return cls(threat, share, defence if colon else None)

    @property
    def budget(self) -> str | None:
        """The budget of a worst case, in 1/255, as a summary names it."""
        if not self.threat.startswith(_WORST):
            return None
        return self.threat.removeprefix(_WORST).removesuffix("/255")


def check_names(minimums: Sequence[Minimum], suite: Suite, served: str) -> None:
    """Check, before it runs, that the suite measures everything that is asked for.

    Args:
        minimums: the required minimums.
        suite: the planned work.
        served: the defence that the archive serves.

    Raises:
        GateError: naming what the suite lacks, and what it has.
    """
    for minimum in minimums:
        defence = minimum.defence or served
        planned = [each for each in suite.planned if defence in each.defences]
        if not planned:
            known = sorted({name for each in suite.planned for name in each.defences})
            raise GateError(
                f"fail_under: suite {suite.name!r} has no defence {defence!r}; it has "
                f"{', '.join(known)}"
            )
        known = _figures(planned)
        if minimum.threat not in known:
            raise GateError(
                f"fail_under: suite {suite.name!r} has no {minimum.threat!r} of {defence}; it has "
                f"{', '.join(known)}"
            )


def shortfalls(minimums: Sequence[Minimum], summary: dict[str, Any], served: str) -> list[str]:
    """A sentence for each minimum that was not reached, or not measured in full.

    Args:
        minimums: the required minimums; see `check_names`.
        summary: summary of the evaluation, as in `summary.json`.
        served: the defence that the archive serves.
    """
    found = []
    for minimum in minimums:
        defence = minimum.defence or served
        what = f"{minimum.threat} of {defence}"
        missing = summary["missing"]
        rows = missing.values() if minimum.budget else [missing.get(minimum.threat, {})]
        if any(defence in row for row in rows):
            found.append(f"{what}: {minimum.share:g} required, but the suite is not finished")
            continue
        kind = "accuracy" if minimum.budget is None else "worst_case"
        share = summary[kind].get(defence, {}).get(minimum.budget or minimum.threat)
        if share is None:
            found.append(f"{what}: {minimum.share:g} required, but it was not measured")
        elif share["right"] / share["clips"] < minimum.share:
            found.append(
                f"{what}: {share['right'] / share['clips']:.4g} is less than {minimum.share:g} "
                f"({share['right']:.0f} of {share['clips']:.0f} clips; 95 % interval "
                f"{share['low']:.2f} to {share['high']:.2f})"
            )
    return found


def _figures(planned: Sequence[Planned]) -> list[str]:
    """The names of the threats, and of the worst cases that they form."""
    threats = [each.threat for each in planned]
    budgets = sorted({threat.epsilon for threat in threats} - {0, 255})
    return [*(threat.name for threat in threats), *(f"{_WORST}{e}/255" for e in budgets)]
