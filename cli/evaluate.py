"""`videopure evaluate`: how robust the served pipeline is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from videopure.cli.options import ARCHIVE, HOW, STOPPED, Seed, Threads, labelled_clips
from videopure.cli.terminal import console, errors, fail

if TYPE_CHECKING:
    from videopure.evaluation import Evaluation
    from videopure.evaluation.api import OnProgress

__all__ = ["evaluate"]

WHAT, PART = "What is attacked", "Only part of the suite"

Archive = Annotated[
    Path, typer.Option(help="Archive to evaluate, made by `videopure build`.", rich_help_panel=WHAT)
]
SuiteOption = Annotated[
    str,
    typer.Option(
        help="quick: a first look, in minutes. demo: attackers who do not know the purifier. "
        "speed: the cost of the shortcuts of `speed: fast`. paper: the columns of the paper. "
        "white-box: attackers who have the archive. worst-case: all of these, each only on clips "
        "that no other attack fooled. queries: attackers who can only query the server. full: "
        "everything, many hours, the most informative first.",
        rich_help_panel=WHAT,
    ),
]
Data = Annotated[str, labelled_clips(WHAT)]
Split = Annotated[
    str,
    typer.Option(
        help="Split of the demo's clips: test, or validation for choosing settings.",
        rich_help_panel=WHAT,
    ),
]
Transfer = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a second recogniser to transfer attacks from; the demo's is built in.",
        rich_help_panel=WHAT,
    ),
]
Clips = Annotated[
    int | None,
    typer.Option(min=1, help="At most this many clips per attack.", rich_help_panel=PART),
]
Queries = Annotated[
    int,
    typer.Option(min=1, help="Queries for each clip, in the suite queries.", rich_help_panel=PART),
]
Batch = Annotated[
    int,
    typer.Option(
        min=1,
        help="Clips that are attacked at once. Dozens suit a GPU; the numbers depend on it.",
        rich_help_panel=HOW,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--threat",
        help="Only this attack, such as PGD-10 or 'exact-20 4/255'; repeatable.",
        rich_help_panel=PART,
    ),
]
OnlyDefences = Annotated[
    list[str] | None,
    typer.Option(
        "--defence",
        help="Only this defence, such as VideoPure or none; repeatable.",
        rich_help_panel=PART,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="Precision of the models: float32, bfloat16 or float16. Half precision rounds "
        "gradients away, so attacks look weaker than they are; use it only to compare speed.",
        rich_help_panel=HOW,
    ),
]
StoredOnly = Annotated[
    bool,
    typer.Option(
        "--stored-only",
        help="Attack nothing: report what is stored so far, also while another process computes.",
        rich_help_panel=PART,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the results of all suites; evaluation-out/ARCHIVE by default.",
        rich_help_panel=HOW,
    ),
]
Beside = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder of another archive's results on the same clips, such as the control's, to "
        "appear in the same tables; repeatable.",
        rich_help_panel=HOW,
    ),
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[DEFENCE: ]THREAT=SHARE",
        help="Exit with code 1 if fewer clips are recognised, such as 'worst case 4/255=0.8' or "
        "clean=0.97. Without a defence's name, it applies to what the archive serves. Repeatable.",
        rich_help_panel=HOW,
    ),
]


def evaluate(
    archive: Archive = ARCHIVE,
    suite: SuiteOption = "quick",
    data: Data = "demo",
    split: Split = "test",
    out: Out = None,
    beside: Beside = None,
    transfer: Transfer = None,
    clips: Clips = None,
    queries: Queries = 1000,
    batch: Batch = 10,
    threats: Only = None,
    defences: OnlyDefences = None,
    seed: Seed = 0,
    threads: Threads = 2,
    dtype: Precision = "float32",
    stored_only: StoredOnly = False,
    fail_under: FailUnder = None,
) -> None:
    """Attack what an archive serves, and report how well it holds.

    Attackers know only the recogniser, can only query the server, or know everything; VideoPure is
    compared with other defences on the same clips. The command prints a short verdict and one
    table; report.html, tables.md, summary.json and clips.csv, with every answer, go into the folder
    of the results.

    To resume a stopped run, give the same command again. Suites share the results that they have in
    common.

    Several processes, on as many GPUs where there are any, with the numbers of one:
    `torchrun --standalone --nproc_per_node 2 $(which videopure) evaluate`.
    """
    with errors.status("Loading torch"):
        from videopure.evaluation import EvaluationError
        from videopure.evaluation import evaluate as run
        from videopure.evaluation.api import processes, results_folder
        from videopure.evaluation.gate import GateError
    folder = out or results_folder(archive, split)
    first = processes().is_main_process
    try:
        with _progress(shown=first and not stored_only) as on_progress:
            result = run(
                archive,
                suite=suite,
                data=data,
                split=split,
                out=folder,
                beside=beside or (),
                transfer=transfer,
                clips=clips,
                queries=queries,
                batch=batch,
                threats=threats or (),
                defences=defences or (),
                seed=seed,
                threads=threads,
                dtype=dtype,
                stored_only=stored_only,
                fail_under=fail_under or (),
                on_progress=on_progress,
            )
    except GateError as error:
        raise fail(str(error), code=2) from error
    except EvaluationError as error:
        raise fail(str(error)) from error
    except KeyboardInterrupt:
        errors.print(f"Stopped. Finished results are in {folder}: run the same command to resume.")
        raise typer.Exit(STOPPED) from None
    if first:
        _show(result)
        for shortfall in result.shortfalls:
            errors.print(f"[bold red]Fell short:[/bold red] {escape(shortfall)}", highlight=False)
    if result.shortfalls:
        raise typer.Exit(1)


def _show(result: Evaluation) -> None:
    """The verdict, the decisive table, and where all tables are."""
    from videopure.evaluation.api import processes
    from videopure.purifier.memory import peak_memory

    for sentence in result.verdict():
        console.print(sentence, highlight=False)
    short = result.short_table()
    if short.rows:
        first, *others = short.columns
        table = Table(first, title=short.title, title_justify="left", box=SIMPLE, pad_edge=False)
        for heading in others:
            table.add_column(heading, justify="right")
        for row in short.rows:
            table.add_row(*map(escape, row))
        console.print(table)
    if result.seconds_alone:
        alone = (f"{name} {seconds:.3f}" for name, seconds in result.seconds_alone.items())
        console.print(f"Seconds for one clip alone, median: {', '.join(alone)}", highlight=False)
        peak = peak_memory(processes().device)
        console.print(f"Peak memory of this process: {peak / 1e6:.0f} MB")
    for what, file in (
        ("Report", result.report),
        ("All tables", result.folder / "tables.md"),
        ("Every answer", result.folder / "clips.csv"),
    ):
        console.print(f"{what}: {file}", soft_wrap=True, highlight=False)


@contextmanager
def _progress(shown: bool) -> Iterator[OnProgress]:
    """Draw a bar of the answers so far."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=errors, disable=not shown) as bar:
        task = bar.add_task("evaluating", total=None)
        yield lambda now: bar.update(
            task, completed=now.done, total=now.total, description=now.threat
        )
