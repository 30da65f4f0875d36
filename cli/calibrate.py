"""`videopure calibrate`: an alarm for your own archive."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from videopure.cli.options import ARCHIVE, Archive, AsJson
from videopure.cli.terminal import console, errors, fail, tell_skipped

if TYPE_CHECKING:
    from videopure.training.calibrate import Calibrated, Threshold

__all__ = ["calibrate"]


def calibrate(
    videos: Annotated[
        str,
        typer.Argument(
            help="Clean videos that no model was trained on: a folder, a CSV with the column path, "
            "a list (.txt) of paths, or `demo`."
        ),
    ],
    archive: Archive = ARCHIVE,
    false_alarms: Annotated[
        float, typer.Option(help="Share of clean clips that may be called adversarial, in 0..1.")
    ] = 0.01,
    clips: Annotated[int | None, typer.Option(min=1, help="At most this many clips.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG of the false alarms at every threshold.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Leave the archive as it is.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes that decode.", show_default="one less than there are cores"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the thresholds of an archive's alarm on clean videos, and write them into it.

    A clip with suspicion above the first is called adversarial. A clip that purification changes by
    more than the second is unlike those that the purifier knows, and its answers carry a warning.
    Both hold only for the archive's present models and settings: calibrate again when they change.
    """
    with errors.status("Loading torch"):
        from videopure.evaluation.report.html import check_tools
        from videopure.training.calibrate import calibrate as find
        from videopure.training.pictures import alarm_curve

    try:
        if picture is not None:
            check_tools()
        found = find(
            archive,
            videos,
            false_alarms=false_alarms,
            count=clips,
            workers=workers or max(1, (os.cpu_count() or 2) - 1),
            write=not dry_run,
            report=lambda step: errors.print(step),
        )
        if picture is not None:
            picture.write_bytes(alarm_curve(found.scores.suspicion, found.suspicion[0]))
    except (ValueError, OSError) as error:
        raise fail(str(error)) from error
    if as_json:
        told = {
            "archive": str(archive),
            "written": found.written,
            "suspicion": [asdict(threshold) for threshold in found.suspicion],
            "change": asdict(found.change),
            "skipped": list(found.scores.skipped),
        }
        print(json.dumps(told))
        return
    _print(found, archive)
    tell_skipped(found.scores.skipped)


def _print(found: Calibrated, archive: Path) -> None:
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("threshold of", "false alarms aimed at", "value", "expected", "95 % interval"):
        table.add_column(heading)
    for threshold in found.suspicion:
        table.add_row("suspicion", *_cells(threshold))
    table.add_row("change", *_cells(found.change))
    console.print(table)
    chosen = found.suspicion[0]
    console.print(
        f"{chosen.clips} clean clips: expect {chosen.low:.1%} to {chosen.high:.1%} of similar "
        "clips to be called adversarial.",
        highlight=False,
    )
    if not chosen.reachable:
        console.print(
            f"These are few clips: {chosen.aim:.2%} false alarms need {chosen.clips_needed} "
            f"or more; with {chosen.clips} the threshold is the highest score.",
            highlight=False,
        )
    done = f"written into {archive}" if found.written else "not written (--dry-run)"
    console.print(f"The first line and the last are {done}.", soft_wrap=True)


def _cells(threshold: Threshold) -> tuple[str, ...]:
    return (
        f"{threshold.aim:.1%}",
        f"{threshold.value:.4f}",
        f"{threshold.expected:.1%}",
        f"{threshold.low:.1%} to {threshold.high:.1%}",
    )
