"""Measures how well an archive detects clips that its purifier does not know.

    python -m videopure.training.unknown my.mar clips/test other-videos --sources clips/sources.csv

The archive must be calibrated, and neither trained nor calibrated on these clips.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from videopure.evaluation.archives import load_evaluated
from videopure.evaluation.metrics import wilson_interval
from videopure.evaluation.sources import grouped_auc, read_sources, source_of
from videopure.evaluation.store import EvaluationError
from videopure.training.calibrate import CleanScores, clean_clips, score_clips

__all__ = ["Detected", "detect"]


@dataclass(frozen=True)
class Detected:
    """How well the change by purification detects unknown clips; see `Verdict.change`.

    Args:
        auc: the chance that an unknown clip is changed more than a known one.
        low, high: its 95 % interval, over recordings.
        threshold: threshold of the warning; None in an archive that is not calibrated.
        known, other: number of clips, and number of those with a warning.
        known_sources, other_sources: number of recordings.
        median_known, median_other: median changes.
    """

    auc: float
    low: float
    high: float
    threshold: float | None
    known: tuple[int, int]
    other: tuple[int, int]
    known_sources: int
    other_sources: int
    median_known: float
    median_other: float


def detect(
    archive: Path,
    known: str,
    other: str,
    *,
    sources: Path | None = None,
    count: int | None = None,
    device: torch.device | None = None,
    workers: int = 1,
) -> Detected:
    """Measure the warning of unknown clips as a detector.

    Args:
        archive: made by `videopure build`, calibrated.
        known: videos of the kind that the purifier was trained on, which it has not seen; see
            `find_videos`. Or `demo`, for the demo's test clips.
        other: videos of another kind.
        sources: CSV with the columns `clip` and `source`; every other clip is its own recording.
        count: at most this many clips of each kind.
        device: device to compute on; by default a GPU where there is one.
        workers: processes that decode; 0 decodes in this process.

    Raises:
        EvaluationError: if archive or clips cannot be used.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_evaluated(archive, device)
    defended, limits = loaded.defended, loaded.settings.limits
    threshold = defended.settings.change_threshold
    named = {} if sources is None else read_sources(sources)

    def measure(data: str) -> tuple[CleanScores, list[str], int]:
        skipped: list[str] = []
        shown = clean_clips(
            *(data, defended.recogniser, limits, skipped),
            count=count,
            workers=workers,
            split="test",
        )
        scores = score_clips(defended, shown, skipped)
        warned = 0 if threshold is None else int((scores.change > threshold).sum())
        return scores, [source_of(name, named) for name in scores.names], warned

    (ours, homes, false), (theirs, places, true) = measure(known), measure(other)
    auc, low, high = grouped_auc(ours.change.tolist(), theirs.change.tolist(), homes, places)
    return Detected(
        auc=auc,
        low=low,
        high=high,
        threshold=threshold,
        known=(len(homes), false),
        other=(len(places), true),
        known_sources=len(set(homes)),
        other_sources=len(set(places)),
        median_known=float(ours.change.median()),
        median_other=float(theirs.change.median()),
    )


def main(
    archive: Annotated[Path, typer.Argument(help="Archive, calibrated.")],
    known: Annotated[str, typer.Argument(help="Videos like those of the training, or `demo`.")],
    other: Annotated[str, typer.Argument(help="Videos of another kind.")],
    sources: Annotated[
        Path | None, typer.Option(help="CSV with the columns clip and source.")
    ] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="At most this many of each.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print how well an archive detects clips that its purifier does not know."""
    try:
        found = detect(archive, known, other, sources=sources, count=clips, workers=workers)
    except EvaluationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(f"ROC AUC {found.auc:.3f} (95 %, over recordings: {found.low:.3f} to {found.high:.3f})")
    if found.threshold is None:
        print("The archive is not calibrated: see videopure calibrate.")
    for kind, (count, warned), recordings, median in (
        ("known", found.known, found.known_sources, found.median_known),
        ("other", found.other, found.other_sources, found.median_other),
    ):
        low, high = wilson_interval(warned, count)
        print(
            f"{kind}: {warned} of {count} clips of {recordings} recordings get the warning "
            f"({low:.1%} to {high:.1%}); median change {median:.4f}"
        )


if __name__ == "__main__":
    typer.run(main)
