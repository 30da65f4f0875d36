"""From single answers to figures: shares, pairs, alarms, worst cases and sanity checks."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median
from typing import Any

import torch

from videopure.evaluation.attacks.threat_models import CLEAN
from videopure.evaluation.defences.purifiers import FIRST, LAST, VIDEOPURE
from videopure.evaluation.metrics import auc, mcnemar, true_alarms, wilson_interval
from videopure.evaluation.report.cells import Cells
from videopure.evaluation.report.checks import sanity_checks
from videopure.evaluation.store import Record

__all__ = ["summarise"]


def summarise(
    records: Sequence[Record], thresholds: dict[str, float], served: str = VIDEOPURE
) -> dict[str, Any]:
    """All figures, ready for JSON.

    Args:
        records: the answers.
        thresholds: thresholds of the suspicion score, by name; the first is served. Empty if none
            was calibrated.
        served: the defence that the archive serves, which others are compared with.
    """
    cells = Cells(records)
    threshold = next(iter(thresholds.values()), None)
    checks = sanity_checks(cells)
    return {
        "served": served,
        "threats": {
            name: {"family": r.family, "knowledge": r.knowledge, "epsilon": r.epsilon}
            for name, r in cells.threats.items()
        },
        "accuracy": {
            d: {t: _share(cells.right(d, t)) for t in cells.of(d)} for d in cells.defences
        },
        "worst_case": {d: _worst_cases(cells, d) for d in cells.defences},
        "paired": {d: _paired(cells, d, served) for d in cells.defences if d != served},
        "suspicion": {d: s for d in cells.defences if (s := _suspicion(cells, d, threshold))},
        "alarms": {d: a for d in cells.defences if (a := _alarms(cells, d, thresholds))},
        "votes": {t: v for t in cells.of(served) if (v := _votes(cells, served, t))},
        "fidelity": {d: f for d in cells.defences if (f := _fidelity(cells, d))},
        "seconds": {d: _seconds(cells, d) for d in cells.defences},
        "attack_seconds": _attack_seconds(cells),
        "drawn": {d: w for d in cells.defences if (w := _drawn(cells, d))},
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
    """By budget: clips answered correctly under every attack of at most that budget.

    The clips are those of the attacks that were run on the most clips; an attack that was run on
    fewer, such as a check, removes those that it fools.
    """
    worst = {}
    for epsilon in sorted({r.epsilon for r in cells.threats.values()} - {0, 255}):
        met = [t for t in cells.of(defence) if cells.threats[t].epsilon <= epsilon]
        if not any(cells.threats[t].epsilon == epsilon for t in met):
            continue
        most = _most(cells, defence, met, epsilon)
        broad = [t for t in met if len(cells.get(defence, t)) >= most]
        clips = cells.common(*((defence, t) for t in broad))
        if clips:
            answers = [cells.get(defence, t) for t in met]
            right = [all(a[clip].held for a in answers if clip in a) for clip in clips]
            at_budget = [r for t in met if (r := cells.threats[t]).epsilon == epsilon]
            adaptive = any(r.knowledge == "adaptive" for r in at_budget)
            attacks = len([t for t in met if t != CLEAN.name])
            worst[str(epsilon)] = {**_share(right), "attacks": attacks, "adaptive": adaptive}
    return worst


def _most(cells: Cells, defence: str, met: Sequence[str], epsilon: int) -> int:
    """The clips of the largest runs at a budget, and of its adaptive attacks.

    If it has no adaptive ones, those of smaller budgets count.
    """
    at_budget = [t for t in met if cells.threats[t].epsilon == epsilon]
    of_less = [t for t in met if cells.threats[t].knowledge == "adaptive"]
    adaptive = [t for t in of_less if t in at_budget] or of_less
    groups = [group for group in (at_budget, adaptive) if group]
    return min(max(len(cells.get(defence, t)) for t in group) for group in groups)


def _drawn(cells: Cells, defence: str) -> dict[str, Any]:
    """By threat, for a defence that answered several times: right at first, and every time."""
    return {
        threat: {
            "first": _share(cells.right(defence, threat)),
            "all": _share([r.held for r in cell.values()]),
            "answers": next(iter(cell.values())).answers,
        }
        for threat in cells.of(defence)
        if (cell := cells.get(defence, threat)) and all(r.answers > 1 for r in cell.values())
    }


def _paired(cells: Cells, defence: str, served: str) -> dict[str, Any]:
    """By threat: clips that only the served defence or only this one got right; McNemar's p."""
    pairs = {}
    for threat in cells.of(defence):
        clips = cells.common((served, threat), (defence, threat))
        if clips:
            ours = cells.right(served, threat, clips)
            first, second, p = mcnemar(ours, cells.right(defence, threat, clips))
            pairs[threat] = {"only_served": first, "only_this": second, "p": round(p, 5)}
    return pairs


def _suspicion(cells: Cells, defence: str, threshold: float | None) -> dict[str, Any]:
    """By threat: how well the score separates attacked clips from clean ones."""
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
    """By threat, and for clean clips: shares of clips that are called adversarial."""
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
    """How much purification changes clean clips, as means over clips."""
    measured = [r.fidelity for r in cells.get(defence, CLEAN.name).values() if r.fidelity]
    return {key: round(mean(m[key] for m in measured), 4) for key in (measured or [{}])[0]}


def _seconds(cells: Cells, defence: str) -> float:
    """Median per clip; the last candidate's votes were computed together with the first's."""
    timed = FIRST if defence == LAST and FIRST in cells.defences else defence
    values = [r.seconds for t in cells.of(timed) for r in cells.get(timed, t).values()]
    return round(median(values), 4)


def _attack_seconds(cells: Cells) -> dict[str, dict[str, float]]:
    """By threat, and by the defence attacked where it is adaptive: median seconds per clip."""
    spent: dict[str, dict[str, float]] = {}
    for threat, example in cells.threats.items():
        for defence in cells.defences:
            cell = cells.get(defence, threat).values()
            if cell and example.knowledge != "clean":
                own = example.knowledge in ("adaptive", "queries")
                name = defence if own else "recogniser"
                spent.setdefault(threat, {}).setdefault(
                    name, round(median(r.attack_seconds for r in cell), 3)
                )
    return spent
