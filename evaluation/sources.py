"""Accuracies with intervals over recordings: clips of one recording fail and hold together.

    python -m videopure.evaluation.sources evaluation-out/my/clips.csv sources.csv

`clips.csv` is that of an evaluation; `sources.csv` has the columns `clip`, a file's name without
its ending, and `source`, the recording that it is of.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

__all__ = ["grouped_interval", "rows_of"]

_DRAWS = 2000


def grouped_interval(
    right: Sequence[bool], groups: Sequence[str], draws: int = _DRAWS
) -> tuple[float, float]:
    """95 % interval of a share, in 0..1: bootstrap over groups (Cameron and others, 2008).

    With few groups it is too narrow, and says so by being wide: ten are few.

    Args:
        right: by clip.
        groups: what each clip belongs to; groups are drawn whole, with replacement.
        draws: how often.
    """
    if not right or len(right) != len(groups):
        raise ValueError(f"there must be a group for each clip, got {len(right)} and {len(groups)}")
    names = sorted(set(groups))
    hits = np.array([sum(r for r, g in zip(right, groups, strict=True) if g == n) for n in names])
    sizes = np.array([groups.count(name) for name in names])
    picks = np.random.default_rng(0).integers(len(names), size=(draws, len(names)))
    shares = hits[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def rows_of(answers: Sequence[dict[str, str]], sources: dict[str, str]) -> list[str]:
    """Lines of a Markdown table: for each threat and defence the share of right answers.

    A line `worst case` is of the clips that were answered rightly under every threat of a budget.

    Args:
        answers: rows of an evaluation's `clips.csv`.
        sources: of each clip, by its file's name without ending; others are one each.
    """
    cells: dict[tuple[str, str], dict[str, bool]] = {}
    for row in answers:
        right = row["right"] == "1"
        cells.setdefault((row["threat"], row["defence"]), {})[row["name"]] = right
        if row["epsilon"] != "0":
            worst = cells.setdefault((f"worst case {row['epsilon']}/255", row["defence"]), {})
            worst[row["name"]] = worst.get(row["name"], True) and right
    lines = [
        "| threat | defence | clips | sources | right | 95 %, over sources |",
        "|---" * 6 + "|",
    ]
    for (threat, defence), found in cells.items():
        groups = [sources.get(Path(name).stem) or name for name in found]
        low, high = grouped_interval(list(found.values()), groups)
        share = sum(found.values()) / len(found)
        lines.append(
            f"| {threat} | {defence} | {len(found)} | {len(set(groups))} | {share:.0%} | "
            f"{low:.0%} to {high:.0%} |"
        )
    return lines


def main(
    clips: Annotated[Path, typer.Argument(help="clips.csv of an evaluation.")],
    sources: Annotated[Path, typer.Argument(help="CSV with the columns clip and source.")],
) -> None:
    """Print the accuracies of an evaluation with intervals over recordings."""
    with clips.open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    with sources.open(encoding="utf-8", newline="") as file:
        known = {row["clip"]: row["source"] for row in csv.DictReader(file)}
    print("\n".join(rows_of(answers, known)))


if __name__ == "__main__":
    typer.run(main)
