"""`videopure tune`: chooses settings for an archive."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table

from videopure.cli.options import ARCHIVE, Archive, AsJson
from videopure.cli.terminal import console, errors, fail, tell_skipped

if TYPE_CHECKING:
    from videopure.training.tune import Found, Tuned

__all__ = ["tune"]


def tune(
    videos: Annotated[
        str,
        typer.Argument(
            help="Validation videos: a folder with one folder per class, a CSV with the columns "
            "path and label, or `demo`."
        ),
    ],
    archive: Archive = ARCHIVE,
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--unlabelled", help="Use the recogniser's own answers to the clean clips as labels."
        ),
    ] = False,
    clips: Annotated[int, typer.Option(min=1, help="At most this many clips.")] = 40,
    epsilon: Annotated[float, typer.Option(help="Budget of the attack, in 1/255.")] = 8.0,
    steps: Annotated[str, typer.Option("--t", help="Values of the paper's t.")] = "0,1,2,3,5",
    strengths: Annotated[
        str, typer.Option("--guidance", help="Factors of the archive's guidance.")
    ] = "0.25,4",
    speeds: Annotated[str, typer.Option("--speed", help="Speeds to try.")] = "exact,fast",
    picture: Annotated[
        Path | None, typer.Option(help="PNG of each setting's accuracy and cost.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the recommended settings into the archive.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes that decode.", show_default="one less than there are cores"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Choose the paper's t, the guidance and the speed of an archive on validation videos.

    Clips are attacked with the recogniser's gradient, without knowledge of the purifier (PGD-10).
    For each setting the command prints the accuracy on clean and attacked clips, and the cost.
    These clips make the choice: evaluate on others afterwards.
    """
    with errors.status("Loading torch"):
        from videopure.evaluation.report.html import check_tools
        from videopure.training.pictures import trade_off
        from videopure.training.tune import tune as try_settings

    try:
        if picture is not None:
            check_tools()
        tuned = try_settings(
            archive,
            videos,
            labelled=not unlabelled,
            count=clips,
            epsilon=epsilon,
            steps=[int(part) for part in _parts(steps)],
            strengths=[float(part) for part in _parts(strengths)],
            speeds=_parts(speeds),
            workers=workers or max(1, (os.cpu_count() or 2) - 1),
            write=write,
            report=lambda step: errors.print(step, highlight=False),
        )
        if picture is not None:
            picture.write_bytes(trade_off(tuned.found, tuned.best))
    except (ValueError, OSError) as error:
        raise fail(str(error)) from error
    if as_json:
        print(json.dumps(_as_json(tuned, archive)))
        return
    _print(tuned, archive)
    tell_skipped(tuned.skipped)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _as_json(tuned: Tuned, archive: Path) -> dict[str, Any]:
    return {
        "archive": str(archive),
        "written": tuned.written,
        "labelled": tuned.labelled,
        "bare": {"clean": tuned.bare[0], "attacked": tuned.bare[1]},
        "found": [_row(found) for found in tuned.found],
        "best": _row(tuned.best),
        "skipped": list(tuned.skipped),
    }


def _row(found: Found) -> dict[str, Any]:
    return {
        "name": found.choice.name,
        "changes": dict(found.choice.changes),
        "clean": found.clean,
        "attacked": found.attacked,
        "clips": found.clips,
        "milliseconds": round(found.milliseconds, 1),
    }


def _print(tuned: Tuned, archive: Path) -> None:
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("setting", "clean", "attacked", "ms a clip", ""):
        table.add_column(heading)
    count = tuned.found[0].clips
    table.add_row("bare recogniser", *(f"{hits / count:.0%}" for hits in tuned.bare), "", "")
    for found in tuned.found:
        shares = (
            f"{hits / count:.0%} ({low:.0%} to {high:.0%})"
            for hits, (low, high) in zip(
                (found.clean, found.attacked), found.intervals, strict=True
            )
        )
        mark = "recommended" if found is tuned.best else ""
        table.add_row(found.choice.name, *shares, f"{found.milliseconds:.0f}", mark)
    console.print(table)
    right = "their labels" if tuned.labelled else "the recogniser's own answers"
    console.print(f"{count} clips, by {right}; 95 % intervals.", highlight=False)
    changes = tuned.best.choice.changes
    if not changes:
        console.print("The archive's own settings are recommended.")
    elif tuned.written:
        console.print(
            f"Written into {archive}. Its alarm is off now, because it was calibrated for other "
            "settings: see videopure calibrate.",
            soft_wrap=True,
        )
    else:
        chosen = " ".join(
            f"--set videopure.purification.{key}={value}" for key, value in changes.items()
        )
        console.print(
            f"To apply them: --write, or videopure configure {archive} {chosen}",
            highlight=False,
            soft_wrap=True,
        )
