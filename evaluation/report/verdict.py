"""The verdict of an evaluation: a few sentences, and one table that fits a terminal."""

from __future__ import annotations

from typing import Any

from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.defences.purifiers import GUIDED_LOOK, ONE_LOOK, VIDEOPURE
from videopure.evaluation.report.tables import Table

__all__ = ["ATTACKERS", "budgets", "short_table", "strongest", "verdict"]

Summary = dict[str, Any]

_SERVED = (VIDEOPURE, ONE_LOOK, GUIDED_LOOK)  # what an archive may serve
_PARTIAL = ("gray-box", "black-box")
# What an attacker has: in a sentence, in a heading, and by the threats' name for it.
ATTACKERS = (
    ("knows the recogniser and not the purifier", "knows the recogniser", _PARTIAL),
    ("can only ask the server", "asks the server", ("queries",)),
    ("has the archive", "has the archive", ("adaptive",)),
)


def verdict(summary: Summary) -> list[str]:
    """A sentence on clean clips, and one for each kind of attacker at each budget."""
    rows = summary["accuracy"]
    said = []
    for defence in (name for name in _SERVED if name in rows):
        if clean := rows[defence].get("clean"):
            bare = rows.get(NONE, {}).get("clean")
            beside = f", the bare recogniser {_count(bare)}" if bare else ""
            said.append(f"{defence} recognises {_count(clean)} clean clips{beside}.")
        for sentence, _, knowledge in ATTACKERS:
            said += [
                f"Against an attacker who {sentence}, at {epsilon}/255: {_against(found, silent)}"
                for epsilon in budgets(summary, knowledge)
                if (found := strongest(summary, defence, epsilon, knowledge))
                for silent in [_silent(summary, defence, found[0])]
            ]
        if not any(
            strongest(summary, defence, epsilon, ("adaptive",))
            for epsilon in budgets(summary, ("adaptive",))
        ):
            said.append(
                f"No attack here knows {defence}: its accuracy under an attacker who "
                "has the archive was not measured."
            )
    if summary.get("missing"):
        said.append("The suite is not finished: these figures cover the answers so far.")
    return said


def short_table(summary: Summary) -> Table:
    """The accuracy of each defence in percent, under the strongest attack of each kind."""
    kinds = [
        (f"{heading} {epsilon}/255", epsilon, knowledge)
        for _, heading, knowledge in reversed(ATTACKERS)  # the decisive one first
        for epsilon in budgets(summary, knowledge)
    ]
    rows = []
    for defence, row in summary["accuracy"].items():
        found = [strongest(summary, defence, epsilon, known) for _, epsilon, known in kinds]
        cells = [_percent(row[each[0]]) if each else "" for each in found]
        rows.append((defence, *cells, _percent(row["clean"]) if "clean" in row else ""))
    return Table(
        "short",
        "Clips recognised, in percent, under the strongest attack of each kind",
        ("defence", *(name for name, _, _ in kinds), "no attack"),
        tuple(rows),
    )


def strongest(
    summary: Summary, defence: str, epsilon: int, knowledge: tuple[str, ...]
) -> tuple[str, dict[str, float]] | None:
    """The attack of a kind and budget that leaves a defence least, and the share left."""
    threats = summary["threats"]
    met = {
        threat: share
        for threat, share in summary["accuracy"][defence].items()
        if threats[threat]["knowledge"] in knowledge and threats[threat]["epsilon"] == epsilon
    }
    return min(met.items(), key=lambda item: item[1]["share"]) if met else None


def _against(found: tuple[str, dict[str, float]], silent: dict[str, float] | None) -> str:
    threat, share = found
    alarm = f", {silent['right']:.0f} wrong without an alarm" if silent else ""
    return f"{_count(share)} clips are recognised ({threat}){alarm}."


def _silent(summary: Summary, defence: str, threat: str) -> dict[str, float] | None:
    found: dict[str, Any] = summary["suspicion"].get(defence, {}).get(threat, {})
    return found.get("fooled_and_silent")


def budgets(summary: Summary, knowledge: tuple[str, ...]) -> list[int]:
    """The budgets of a kind of attack, in 1/255; without zero and unbounded ones."""
    known = summary["threats"].values()
    return sorted({t["epsilon"] for t in known if t["knowledge"] in knowledge} - {0, 255})


def _count(share: dict[str, float]) -> str:
    return f"{share['right']:.0f} of {share['clips']:.0f}"


def _percent(share: dict[str, float]) -> str:
    return f"{100 * share['share']:.0f}"
