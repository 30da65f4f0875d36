"""Signs that attacks are as strong as they claim, and that gradients are not masked."""

from __future__ import annotations

from dataclasses import dataclass

from videopure.evaluation.attacks.probe import SATURATED
from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.defences.purifiers import VIDEOPURE
from videopure.evaluation.report.cells import Cells

__all__ = ["Check", "sanity_checks"]

CONVERGED = 200  # steps after which more should change nothing
LARGE = 32  # in 1/255; a clip that survives it shows that the attack is weak


@dataclass(frozen=True)
class Check:
    """A sign that gradients are not masked, or that they are; `holds` is None where untested."""

    name: str
    holds: bool | None
    detail: str


def sanity_checks(cells: Cells) -> list[Check]:
    """Checks that attacks are as strong as they should be (after arXiv 1902.06705, section 5)."""
    checks = []
    for defence in cells.defences:
        kinds = () if defence in (NONE, VIDEOPURE) else ("adaptive",)
        checks += _budget_checks(cells, defence, kinds)
    at_none = [
        ("more steps help", "PGD-50", "PGD-10"),
        ("APGD is no weaker than PGD-50", "APGD-CE", "PGD-50"),
        ("APGD's margin loss is no weaker than PGD-50", "APGD-margin", "PGD-50"),
        ("MI-FGSM is no weaker than PGD-10", "MI-FGSM", "PGD-10"),
        ("gradients beat queries", "PGD-50", "Square-1000"),
        ("gradients beat transfer", "PGD-10", "transfer"),
    ]
    for name, stronger, weaker in at_none:
        checks += _compared(cells, NONE, name, stronger, weaker)
    for defence in cells.defences:
        for family in dict.fromkeys(r.family for r in cells.threats.values()):
            if family.startswith("exact-"):
                bpda = family.replace("exact", "BPDA")
                checks += _compared(cells, defence, "the exact gradient beats BPDA", family, bpda)
                name = "knowing the defence helps"
                checks += _compared(cells, defence, name, family, "PGD-10")
                name = "gradients beat queries of the whole defence"
                for asking in _queries(cells):
                    checks += _compared(cells, defence, name, family, asking)
                usual, *more = family.split(" of ")
                if more:
                    checks += _compared(cells, defence, "more draws help", family, usual)
            for shorter in _shorter(cells, family):
                checks += _compared(cells, defence, "more steps help", family, shorter)
                if _steps(family) >= CONVERGED:
                    name = f"{_steps(family)} steps take nothing more"
                    checks += _compared(cells, defence, name, shorter, family)
        checks += _gradient_checks(cells, defence)
        for threat in cells.of(defence, epsilon=LARGE, knowledge="adaptive"):
            kept = cells.right(defence, threat)
            detail = f"{defence}: {threat} leaves {sum(kept)} of {len(kept)} clips"
            checks.append(Check(f"nothing is left at {LARGE}/255", not any(kept), detail))
        unbounded = cells.right(defence, "unbounded")
        if unbounded:
            left = f"{defence}: {sum(unbounded)} of {len(unbounded)} clips left"
            checks.append(Check("an unbounded attack leaves nothing", not any(unbounded), left))
    return checks


def _steps(family: str) -> int:
    """The steps of an adaptive attack, such as 20 of "exact-20"; 0 if its name has none."""
    last = family.rpartition("-")[2]
    return int(last) if last.isdigit() else 0


def _shorter(cells: Cells, family: str) -> list[str]:
    """The families of the same adaptive attack with fewer steps."""
    stem = family.rpartition("-")[0]
    if not stem.startswith("exact"):
        return []
    others = dict.fromkeys(record.family for record in cells.threats.values())
    return [o for o in others if o.rpartition("-")[0] == stem and 0 < _steps(o) < _steps(family)]


def _queries(cells: Cells) -> list[str]:
    """The families that query the whole defence without a gradient."""
    families = dict.fromkeys(record.family for record in cells.threats.values())
    return [family for family in families if family.startswith("Square through")]


def _gradient_checks(cells: Cells, defence: str) -> list[Check]:
    """Whether there was a gradient to follow on every clip, for each threat."""
    checks = []
    for threat in cells.of(defence, knowledge="adaptive"):
        found = [r.gradient for r in cells.get(defence, threat).values() if r.gradient]
        if not found:
            continue
        dead = sum(g["largest"] == 0 for g in found)
        saturated = sum(g["loss"] < SATURATED for g in found)
        zero = max(g["zero"] for g in found)
        detail = (
            f"{defence}, {threat}: of {len(found)} clips {dead} have no gradient and {saturated} a "
            f"loss below {SATURATED:g}; at most {zero:.1%} of a gradient's values are zero"
        )
        name = "gradients are neither zero nor saturated"
        checks.append(Check(name, dead == 0 and saturated == 0, detail))
    return checks


def _budget_checks(cells: Cells, defence: str, kinds: tuple[str, ...]) -> list[Check]:
    """Whether a family of attacks, of these kinds or any, is stronger with a larger budget."""
    checks = []
    known = [r for r in cells.threats.values() if not kinds or r.knowledge in kinds]
    for family in dict.fromkeys(record.family for record in known):
        names = sorted(cells.of(defence, family=family), key=lambda t: cells.threats[t].epsilon)
        if len(names) < 2:
            continue
        clips = cells.common(*((defence, name) for name in names))
        if not clips:
            continue
        left = [sum(cells.right(defence, name, clips)) for name in names]
        budgets = ", ".join(str(cells.threats[name].epsilon) for name in names)
        counts = ", ".join(map(str, left))
        detail = f"{defence}, {family} at {budgets}/255: {counts} of {len(clips)} left"
        checks.append(Check("more budget helps", left == sorted(left, reverse=True), detail))
    return checks


def _compared(cells: Cells, defence: str, name: str, stronger: str, weaker: str) -> list[Check]:
    """Whether one family leaves no more clips than another, at every budget that both have."""
    checks = []
    for threat in cells.of(defence, family=stronger):
        epsilon = cells.threats[threat].epsilon
        for other in cells.of(defence, family=weaker, epsilon=epsilon):
            clips = cells.common((defence, threat), (defence, other))
            if clips:
                left = [sum(cells.right(defence, t, clips)) for t in (threat, other)]
                detail = f"{defence}: {threat} leaves {left[0]}, {other} {left[1]} of {len(clips)}"
                checks.append(Check(name, left[0] <= left[1], detail))
    return checks
