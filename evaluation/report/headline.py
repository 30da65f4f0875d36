"""The verdict in three sentences: who gets through, at what cost, and what holds."""

from __future__ import annotations

from typing import Any, NamedTuple

from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.report.verdict import ATTACKERS, budgets, strongest

__all__ = ["headline"]

Summary = dict[str, Any]
Share = dict[str, float]

# An attacker gets through if a smaller share of the clips is still recognised.
_HALF = 0.5


class Found(NamedTuple):
    """The strongest attack of an attacker at a budget, and the accuracy under it."""

    attacker: str
    epsilon: int
    threat: str
    share: Share
    adaptive: bool

    @property
    def counted(self) -> str:
        """Clips still recognised, out of how many."""
        return f"{self.share['right']:.0f} of {self.share['clips']:.0f}"

    @property
    def lost(self) -> str:
        """Clips that it fools, out of how many."""
        fooled = self.share["clips"] - self.share["right"]
        return f"{fooled:.0f} of {self.share['clips']:.0f}"


def headline(summary: Summary, served: str) -> list[str]:
    """Three sentences on what the archive serves; none if it was not evaluated.

    Args:
        summary: summary of the evaluation.
        served: the defence that the archive serves.
    """
    if served not in summary["accuracy"]:
        return []
    met = [
        Found(attacker, epsilon, *found, adaptive="adaptive" in knowledge)
        for attacker, _, knowledge in ATTACKERS
        for epsilon in budgets(summary, knowledge)
        if (found := strongest(summary, served, epsilon, knowledge))
    ]
    through = _first_of_each([found for found in met if found.share["share"] < _HALF])
    holding = _last_of_each([found for found in met if found.share["share"] >= _HALF])
    deciding = through[-1] if through else _strongest(met)
    return [
        _who(through, deciding, met),
        _cost(summary, served, deciding),
        _holds(summary, served, holding),
    ]


def _strongest(met: list[Found]) -> Found | None:
    """The attack that leaves fewest clips; among equals that of the attacker who knows most."""
    return min(reversed(met), key=lambda found: found.share["share"], default=None)


def _who(through: list[Found], strongest: Found | None, met: list[Found]) -> str:
    knows = any(found.adaptive for found in met)
    unknown = "" if knows else " Nobody who knows the defence was tried."
    if strongest is None:
        return f"Nobody attacked it.{unknown}"
    if strongest.share["share"] == 1:
        most = max(found.epsilon for found in met)
        return f"No attacker that was tried fools a clip, at up to {most}/255.{unknown}"
    if not through:
        return (
            f"The strongest attack tried, {strongest.threat} by an attacker who "
            f"{strongest.attacker}, fools {strongest.lost} clips.{unknown}"
        )
    said = "; ".join(
        f"An attacker who {found.attacker} gets through at {found.epsilon}/255, where "
        f"{found.threat.rsplit(' ', 1)[0]} leaves {found.counted} clips"
        for found in reversed(through)
    )
    return f"{said[0]}{said[1:].replace('; An', '; an')}.{unknown}"


def _cost(summary: Summary, served: str, found: Found | None) -> str:
    seconds = summary["seconds"]
    bare = f", the recogniser alone {seconds[NONE]:.2f} s" if NONE in seconds else ""
    own = f"{served} takes {seconds[served]:.2f} s for a clip{bare}"
    if found is None:
        return f"{own}."
    spent = summary["attack_seconds"].get(found.threat, {})
    taken = spent.get(served, spent.get("recogniser"))
    silent = summary["suspicion"].get(served, {}).get(found.threat, {}).get("fooled_and_silent")
    alarm = (
        f", and {silent['right']:.0f} of {silent['clips']:.0f} clips are answered wrongly without "
        "an alarm"
        if silent
        else ""
    )
    if taken is None:
        return f"{own}{alarm}."
    return f"{found.threat} takes {taken:.2f} s for a clip{alarm}; {own}."


def _holds(summary: Summary, served: str, holding: list[Found]) -> str:
    clean = summary["accuracy"][served].get("clean")
    said = [f"{clean['right']:.0f} of {clean['clips']:.0f} clean clips"] if clean else []
    said += [
        f"{found.counted} under {found.threat} of an attacker who {found.attacker}"
        for found in holding
    ]
    return f"What holds: {_in_words(said)}." if said else "Nothing that was tried holds."


def _in_words(parts: list[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _first_of_each(found: list[Found]) -> list[Found]:
    """The lowest budget of each attacker."""
    return list({each.attacker: each for each in reversed(found)}.values())[::-1]


def _last_of_each(found: list[Found]) -> list[Found]:
    """The highest budget of each attacker."""
    return list({each.attacker: each for each in found}.values())
