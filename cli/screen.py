"""`videopure screen`: every video of folders and buckets, without a server."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from videopure.cli.options import ARCHIVE, HOW, STOPPED, Archive, AsJson
from videopure.cli.terminal import console, errors, fail

if TYPE_CHECKING:
    from videopure.bulk import Progress as Now
    from videopure.bulk import Summary

__all__ = ["screen"]

_BETWEEN_LINES = 30  # at least this many seconds between lines in a log
_SHOWN = 10  # most labels and errors shown

Copies = Literal["none", "adversarial", "all"]


def screen(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders, globs, files, and lists of them (.txt, or .csv with a column path); "
            "also URLs: s3://, gs://, https:// and others that fsspec reads.",
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder or URL of the answers.")],
    archive: Archive = ARCHIVE,
    clips: Annotated[
        int | None,
        typer.Option(min=1, help="Clips per video.", show_default="as the archive says"),
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Labels per answer.")] = None,
    copies: Annotated[Copies, typer.Option(help="Videos to write purified copies of.")] = "none",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Copies of the models.",
            show_default="one for each GPU, or for four CPU cores",
            rich_help_panel=HOW,
        ),
    ] = None,
    gpu_share: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Share of a GPU for each worker.", rich_help_panel=HOW),
    ] = 1.0,
    block: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most this many videos are written together; a kill loses these.",
            show_default="up to 64",
            rich_help_panel=HOW,
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to join, such as auto or ray://head:10001.",
            show_default="none: only this machine",
            rich_help_panel=HOW,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask an archive about many videos, without a server, on one machine or a Ray cluster.

    Each video gets the answer that a server of the archive would give its operator, or the error,
    as a row of the Parquet files in OUT/answers. Answers are kept: the same command resumes a
    stopped or killed run, and answers videos that were added since.
    """
    with errors.status("Loading torch"):
        from videopure.bulk import ScreenError
        from videopure.bulk import screen as run
    options = {"clips": clips, "top_k": top_k}
    progress = _Shown()
    try:
        with progress, redirect_stdout(sys.stderr):  # where Ray reports that a worker died
            summary = run(
                sources,
                archive,
                out,
                workers=workers,
                gpu_share=gpu_share,
                block=block,
                options={name: value for name, value in options.items() if value is not None},
                copies=copies,
                address=address,
                on_progress=progress.update,
            )
    except ScreenError as error:
        raise fail(str(error)) from error
    except KeyboardInterrupt:
        errors.print(f"Stopped. The answers so far are in {out}: run the same command to resume.")
        raise typer.Exit(STOPPED) from None
    if as_json:
        last = progress.last
        run_only = {"videos": last.own, "seconds": last.seconds, "busy_seconds": last.busy}
        print(json.dumps({**summary.as_json(), "out": out, "this_run": run_only}))
    else:
        _tell(summary, out)


def _tell(summary: Summary, out: str) -> None:
    def counted(counts: dict[str, int]) -> str:
        first = list(counts.items())[:_SHOWN]
        more = f", and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
        return ", ".join(f"{name} {count}" for name, count in first) + more

    lines = [f"{summary.answered} of {summary.planned} videos have a row in {out}/answers"]
    lines.append(f"adversarial: {summary.adversarial}")
    if summary.unknown:
        lines[-1] += f"; {summary.unknown} without a threshold (videopure calibrate)"
    if summary.warned:
        lines.append(f"with warnings: {summary.warned}")
    lines.append(f"labels: {counted(summary.labels) or 'none'}")
    lines.append(f"errors: {counted(summary.errors) or 'none'}")
    if summary.copies:
        lines.append(f"purified copies: {summary.copies} in {out}/copies")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Shown:
    """A bar with the time left; in a log, a line now and then."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        told = TextColumn("{task.fields[told]}")
        self._bar = Progress(*columns, told, console=errors, disable=not errors.is_terminal)
        self._task = self._bar.add_task("starting", total=None, told="")
        self._told = 0.0
        self.last: Now

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, now: Now) -> None:
        self.last = now
        count, told = f"{now.done} of {now.total}", _words(now)
        self._bar.update(
            self._task, total=now.total, completed=now.done, description=count, told=told
        )
        if not errors.is_terminal and now.seconds - self._told > _BETWEEN_LINES:
            self._told = now.seconds
            errors.print(f"{count} videos, {told}", highlight=False, soft_wrap=True)


def _words(now: Now) -> str:
    parts: list[Any] = [f"{now.adversarial} adversarial", f"{now.errors} errors"]
    if now.left is not None:
        parts.append(f"{timedelta(seconds=round(now.left))} left")
    return ", ".join(parts)
