"""From single answers to figures: shares, pairs, alarms, worst cases and sanity checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import torch

from videopure.evaluation.attacks.threat_models import CLEAN
from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.defences.purifiers import FIRST, LAST, VIDEOPURE
from videopure.evaluation.metrics import auc, mcnemar, true_alarms, wilson_interval
from videopure.evaluation.store import Record

__all__ = ["Cells", "Check", "summarise"]


class Cells:
    """Records by defence and threat, each with a record for every clip."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._cells: dict[tuple[str, str], dict[int, Record]] = {}
        self.threats: dict[str, Record] = {}  # one record of each, for family and budget
        self.defences: list[str] = []
        for record in records:
            self._cells.setdefault((record.defence, record.threat), {})[record.clip] = record
            self.threats.setdefault(record.threat, record)
            if record.defence not in self.defences:
                self.defences.append(record.defence)

    def get(self, defence: str, threat: str) -> dict[int, Record]:
        """Clip -> record; empty where this was not evaluated."""
        return self._cells.get((defence, threat), {})

    def right(self, defence: str, threat: str, clips: Iterable[int] | None = None) -> list[bool]:
        """Whether each clip was answered rightly, in the order of the clips."""
        cell = self.get(defence, threat)
        return [cell[clip].right for clip in (sorted(cell) if clips is None else clips)]

    def of(self, defence: str, **wanted: Any) -> list[str]:
        """Threats that a defence met, with these values of their fields."""
        return [
            name
            for name, record in self.threats.items()
            if self.get(defence, name)
            and all(getattr(record, field) == value for field, value in wanted.items())
        ]

    def common(self, *cells: tuple[str, str]) -> list[int]:
        """Clips that all of these (defence, threat) have answered."""
        clips = [set(self.get(*cell)) for cell in cells]
        return sorted(set.intersection(*clips)) if clips else []


@dataclass(frozen=True)
class Check:
    """A sign that gradients are not masked, or that they are; `holds` is None where untested."""

    name: str
    holds: bool | None
    detail: str


def summarise(records: Sequence[Record], thresholds: dict[str, float]) -> dict[str, Any]:
    """All figures, ready for JSON.

    Args:
        records: what was answered.
        thresholds: of the suspicion score, by what they are called; the first is served. Empty
            where none was calibrated.
    """
    cells = Cells(records)
    threshold = next(iter(thresholds.values()), None)
    checks = sanity_checks(cells)
    return {
        "threats": {
            name: {"family": r.family, "knowledge": r.knowledge, "epsilon": r.epsilon}
            for name, r in cells.threats.items()
        },
        "accuracy": {
            d: {t: _share(cells.right(d, t)) for t in cells.of(d)} for d in cells.defences
        },
        "worst_case": {d: _worst_cases(cells, d) for d in cells.defences},
        "paired": {d: _paired(cells, d) for d in cells.defences if d != VIDEOPURE},
        "suspicion": {d: s for d in cells.defences if (s := _suspicion(cells, d, threshold))},
        "alarms": {d: a for d in cells.defences if (a := _alarms(cells, d, thresholds))},
        "votes": {t: v for t in cells.of(VIDEOPURE) if (v := _votes(cells, VIDEOPURE, t))},
        "fidelity": {d: f for d in cells.defences if (f := _fidelity(cells, d))},
        "seconds": {d: _seconds(cells, d) for d in cells.defences},
        "attack_seconds": _attack_seconds(cells),
        "sanity": [{"check": c.name, "holds": c.holds, "detail": c.detail} for c in checks],
    }


def _share(right: Sequence[bool]) -> dict[str, float]:
    low, high = wilson_interval(sum(right), len(right))
    return {
        "share": round(sum(right) / len(right), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "right": sum(right),
        "clips": len(right),
    }


def _worst_cases(cells: Cells, defence: str) -> dict[str, Any]:
    """By budget: clips that are right under every attack of at most that budget."""
    worst = {}
    for epsilon in sorted({r.epsilon for r in cells.threats.values()} - {0, 255}):
        met = [t for t in cells.of(defence) if cells.threats[t].epsilon <= epsilon]
        if not any(cells.threats[t].epsilon == epsilon for t in met):
            continue
        clips = cells.common(*((defence, t) for t in met))
        if clips:
            right = [all(cells.get(defence, t)[clip].right for t in met) for clip in clips]
            adaptive = any(cells.threats[t].knowledge == "adaptive" for t in met)
            attacks = len([t for t in met if t != CLEAN.name])
            worst[str(epsilon)] = {**_share(right), "attacks": attacks, "adaptive": adaptive}
    return worst


def _paired(cells: Cells, defence: str) -> dict[str, Any]:
    """By threat: clips that only VideoPure, and only this defence got right, and McNemar's p."""
    pairs = {}
    for threat in cells.of(defence):
        clips = cells.common((VIDEOPURE, threat), (defence, threat))
        if clips:
            ours = cells.right(VIDEOPURE, threat, clips)
            first, second, p = mcnemar(ours, cells.right(defence, threat, clips))
            pairs[threat] = {"only_videopure": first, "only_this": second, "p": round(p, 5)}
    return pairs


def _suspicion(cells: Cells, defence: str, threshold: float | None) -> dict[str, Any]:
    """By threat: how well the score tells attacked clips from clean ones."""
    clean = _scores(cells, defence, CLEAN.name)
    if not len(clean):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for threat in cells.of(defence):
        scores = _scores(cells, defence, threat)
        if threat == CLEAN.name or not len(scores):
            continue
        found[threat] = {
            "auc": round(auc(clean, scores), 4),
            "alarms_at_1_percent": round(true_alarms(clean, scores, 0.01), 4),
            "alarms_at_5_percent": round(true_alarms(clean, scores, 0.05), 4),
            "clean_clips": len(clean),
            "clips": len(scores),
        }
        if threshold is not None:
            cell = cells.get(defence, threat).values()
            silent = [not r.right and (r.suspicion or 0) <= threshold for r in cell]
            found[threat]["fooled_and_silent"] = _share(silent)
    return found


def _alarms(
    cells: Cells, defence: str, thresholds: dict[str, float]
) -> dict[str, dict[str, float]]:
    """By threat, clean clips too: shares of clips that are called adversarial."""
    scores = {threat: _scores(cells, defence, threat) for threat in cells.of(defence)}
    return {
        threat: {
            name: round(float((values > limit).double().mean()), 4)
            for name, limit in thresholds.items()
        }
        for threat, values in scores.items()
        if len(values) and thresholds
    }


def _scores(cells: Cells, defence: str, threat: str) -> torch.Tensor:
    cell = cells.get(defence, threat).values()
    return torch.tensor([r.suspicion for r in cell if r.suspicion is not None])


def _votes(cells: Cells, defence: str, threat: str) -> dict[str, dict[str, int]]:
    """By timestep: votes that were counted, and those that were right."""
    found: dict[str, dict[str, int]] = {}
    for record in cells.get(defence, threat).values():
        for timestep, vote in zip(record.timesteps, record.votes, strict=True):
            count = found.setdefault(str(timestep), {"right": 0, "counted": 0})
            count["counted"] += 1
            count["right"] += vote == record.truth
    return found


def _fidelity(cells: Cells, defence: str) -> dict[str, float]:
    """Means over clean clips of what purification does to them."""
    measured = [r.fidelity for r in cells.get(defence, CLEAN.name).values() if r.fidelity]
    return {key: round(mean(m[key] for m in measured), 4) for key in (measured or [{}])[0]}


def _seconds(cells: Cells, defence: str) -> float:
    """Median of a clip; the last candidate's votes were computed when the first's were asked."""
    timed = FIRST if defence == LAST and FIRST in cells.defences else defence
    values = [r.seconds for t in cells.of(timed) for r in cells.get(timed, t).values()]
    return round(median(values), 4)


def _attack_seconds(cells: Cells) -> dict[str, dict[str, float]]:
    """By threat, and by the defence attacked where it is adaptive: median seconds for a clip."""
    spent: dict[str, dict[str, float]] = {}
    for threat, example in cells.threats.items():
        for defence in cells.defences:
            cell = cells.get(defence, threat).values()
            if cell and example.knowledge != "clean":
                name = defence if example.knowledge == "adaptive" else "recogniser"
                spent.setdefault(threat, {}).setdefault(
                    name, round(median(r.attack_seconds for r in cell), 3)
                )
    return spent


def sanity_checks(cells: Cells) -> list[Check]:
    """What must hold if attacks are what they say (after arXiv 1902.06705, section 5)."""
    checks = []
    for defence in (NONE, VIDEOPURE):
        checks += _budget_checks(cells, defence)
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
                usual, *more = family.split(" of ")
                if more:
                    checks += _compared(cells, defence, "more draws help", family, usual)
            for shorter in _shorter(cells, family):
                checks += _compared(cells, defence, "more steps help", family, shorter)
        unbounded = cells.right(defence, "unbounded")
        if unbounded:
            left = f"{defence}: {sum(unbounded)} of {len(unbounded)} clips left"
            checks.append(Check("an unbounded attack leaves nothing", not any(unbounded), left))
    return checks


def _shorter(cells: Cells, family: str) -> list[str]:
    """The families that are the same adaptive attack in fewer steps."""
    stem, _, steps = family.rpartition("-")
    if not (stem.startswith("exact") and steps.isdigit()):
        return []
    others = dict.fromkeys(record.family for record in cells.threats.values())
    parted = [(other, other.rpartition("-")) for other in others]
    return [o for o, (s, _, n) in parted if s == stem and n.isdigit() and int(n) < int(steps)]


def _budget_checks(cells: Cells, defence: str) -> list[Check]:
    """Whether a family of attacks does better with a larger budget."""
    checks = []
    for family in dict.fromkeys(record.family for record in cells.threats.values()):
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
