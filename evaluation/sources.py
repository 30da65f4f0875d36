"""Results with intervals over recordings, because clips of one recording are not independent.

    python -m videopure.evaluation.sources evaluation-out/my/clips.csv sources.csv

`clips.csv` comes from an evaluation; `sources.csv` has the columns `clip`, a file's name without
its ending, and `source`, its recording.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

__all__ = [
    "grouped_auc",
    "grouped_interval",
    "read_sources",
    "rows_of",
    "source_of",
    "suspicion_rows",
]

_DRAWS = 2000


def grouped_interval(
    right: Sequence[bool], groups: Sequence[str], draws: int = _DRAWS
) -> tuple[float, float]:
    """95 % interval of a share, in 0..1: bootstrap over groups (Cameron et al., 2008).

    With few groups (ten are few) it is too narrow, even though it is wide.

    Args:
        right: whether each clip was answered correctly.
        groups: group of each clip; whole groups are drawn, with replacement.
        draws: number of draws.
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


def grouped_auc(
    negative: Sequence[float],
    positive: Sequence[float],
    negative_groups: Sequence[str],
    positive_groups: Sequence[str],
    draws: int = _DRAWS,
) -> tuple[float, float, float]:
    """The chance that a positive score exceeds a negative one, and its 95 % interval, all in 0..1.

    Ties count half. Whole groups are drawn, with their scores of both kinds, as in
    `grouped_interval`.

    Args:
        negative, positive: the scores.
        negative_groups, positive_groups: group of each score.
        draws: number of draws.
    """
    if not negative or not positive:
        raise ValueError(
            f"there must be scores of both kinds, got {len(negative)} and {len(positive)}"
        )
    names = sorted({*negative_groups, *positive_groups})
    number = {name: k for k, name in enumerate(names)}
    low, high = np.array(negative)[:, None], np.array(positive)[None]
    above = (high > low) + 0.5 * (high == low)  # [negative, positive]
    picks = np.random.default_rng(0).integers(len(names), size=(draws, len(names)))
    times = np.stack([np.bincount(row, minlength=len(names)) for row in picks])
    first = times[:, [number[group] for group in negative_groups]].astype(float)
    second = times[:, [number[group] for group in positive_groups]].astype(float)
    pairs = first.sum(axis=1) * second.sum(axis=1)
    drawn = ((first @ above) * second).sum(axis=1)[pairs > 0] / pairs[pairs > 0]
    least, most = np.quantile(drawn, (0.025, 0.975))
    return float(above.mean()), float(least), float(most)


def rows_of(answers: Sequence[dict[str, str]], sources: dict[str, str]) -> list[str]:
    """Lines of a Markdown table: the share of right answers for each threat and defence.

    A line `worst case` counts the clips that were answered correctly under every threat of a
    budget.

    Args:
        answers: rows of an evaluation's `clips.csv`.
        sources: recording of each clip, by its file's name without ending; any other clip is its
            own recording.
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
        groups = [source_of(name, sources) for name in found]
        low, high = grouped_interval(list(found.values()), groups)
        share = sum(found.values()) / len(found)
        lines.append(
            f"| {threat} | {defence} | {len(found)} | {len(set(groups))} | {share:.0%} | "
            f"{low:.0%} to {high:.0%} |"
        )
    return lines


def suspicion_rows(answers: Sequence[dict[str, str]], sources: dict[str, str]) -> list[str]:
    """Lines of a Markdown table: how well suspicion separates attacked from clean clips."""
    cells: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for row in answers:
        if row["suspicion"]:
            scored = (float(row["suspicion"]), source_of(row["name"], sources))
            cells.setdefault((row["threat"], row["defence"]), []).append(scored)
    lines = ["| suspicion of | attack | clips | ROC AUC | 95 %, over sources |", "|---" * 5 + "|"]
    for (threat, defence), found in cells.items():
        clean = cells.get(("clean", defence), [])
        if threat == "clean" or not clean:
            continue
        (negative, homes), (positive, places) = zip(*clean, strict=True), zip(*found, strict=True)
        value, low, high = grouped_auc(negative, positive, homes, places)
        lines.append(
            f"| {defence} | {threat} | {len(found)} | {value:.2f} | {low:.2f} to {high:.2f} |"
        )
    return lines if len(lines) > 2 else []


def source_of(name: str, sources: dict[str, str]) -> str:
    """The recording of a clip, by the name of its file; the clip itself if none is known."""
    return sources.get(Path(name).stem) or name


def read_sources(file: Path) -> dict[str, str]:
    """The recording of each clip, from a CSV with the columns `clip` and `source`."""
    with file.open(encoding="utf-8", newline="") as content:
        return {row["clip"]: row["source"] for row in csv.DictReader(content)}


def main(
    clips: Annotated[Path, typer.Argument(help="clips.csv of an evaluation.")],
    sources: Annotated[Path, typer.Argument(help="CSV with the columns clip and source.")],
) -> None:
    """Print the results of an evaluation with intervals over recordings."""
    with clips.open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    known = read_sources(sources)
    alarms = suspicion_rows(answers, known)
    print("\n".join([*rows_of(answers, known), *(["", *alarms] if alarms else [])]))


if __name__ == "__main__":
    typer.run(main)
