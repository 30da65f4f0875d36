"""`videopure evaluate`: how robust the served pipeline is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from accelerate import PartialState

    from videopure.evaluation.runner import Evaluator
    from videopure.evaluation.store import Store
    from videopure.evaluation.suites import Suite

__all__ = ["evaluate"]

ARCHIVE = Path("model_store/videopure.mar")
STOPPED = 130

console = Console()
errors = Console(stderr=True)

WHAT, PART, HOW = "What is attacked", "Only a part of the suite", "How"

Archive = Annotated[
    Path, typer.Option(help="Archive to evaluate, made by `videopure build`.", rich_help_panel=WHAT)
]
SuiteOption = Annotated[
    str,
    typer.Option(
        help="quick: a first look, in minutes. demo: attackers who do not know the purifier. "
        "speed: what the shortcuts of `speed: fast` cost. paper: the columns of the paper. full: "
        "everything, many hours, what says most first.",
        rich_help_panel=WHAT,
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help="`demo`, a folder with a folder of videos for each class, or a CSV with the columns "
        "path and label.",
        rich_help_panel=WHAT,
    ),
]
Split = Annotated[
    str,
    typer.Option(
        help="Of the demo's clips: test, or validation to choose settings on.", rich_help_panel=WHAT
    ),
]
Transfer = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a second recogniser to transfer attacks from; of the demo's it is known.",
        rich_help_panel=WHAT,
    ),
]
Clips = Annotated[
    int | None, typer.Option(min=1, help="No more clips per attack.", rich_help_panel=PART)
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
        help="Of the models: float32, bfloat16 or float16. Half precision rounds gradients away, "
        "so that attacks look weaker than they are: for comparing speed alone.",
        rich_help_panel=HOW,
    ),
]
StoredOnly = Annotated[
    bool,
    typer.Option(
        "--stored-only",
        help="Attack nothing: print what is stored so far and write the report, also while "
        "another process computes.",
        rich_help_panel=PART,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the results, of all suites; evaluation-out/ARCHIVE where none is given.",
        rich_help_panel=HOW,
    ),
]
Seed = Annotated[int, typer.Option(help="Of everything that is drawn.", rich_help_panel=HOW)]
Threads = Annotated[
    int, typer.Option(min=1, help="CPU threads of each process.", rich_help_panel=HOW)
]


def evaluate(
    archive: Archive = ARCHIVE,
    suite: SuiteOption = "quick",
    data: Data = "demo",
    split: Split = "test",
    out: Out = None,
    transfer: Transfer = None,
    clips: Clips = None,
    threats: Only = None,
    defences: OnlyDefences = None,
    seed: Seed = 0,
    threads: Threads = 2,
    dtype: Precision = "float32",
    stored_only: StoredOnly = False,
) -> None:
    """Attack what an archive serves, and report how much of it holds.

    Attackers who know nothing of the purifier, the recogniser alone, or everything; VideoPure
    beside other defences on the same clips. Tables are printed; report.html, tables.md,
    summary.json and clips.csv, with every answer, go into the results' folder.

    A run that was stopped goes on where it was when the same command is given again, and suites
    share what they have in common.

    Several processes, on as many GPUs where there are any, with the numbers of one:
    `torchrun --standalone --nproc_per_node 2 $(which videopure) evaluate`.
    """
    with errors.status("Loading torch"):
        from videopure.evaluation.store import EvaluationError
    name = archive.stem if split == "test" else f"{archive.stem}-{split}"
    folder = out or Path("evaluation-out") / name
    try:
        _run(
            archive,
            suite,
            (data, split),
            folder,
            transfer,
            {"clips": clips, "only_threats": threats or (), "only_defences": defences or ()},
            seed,
            threads,
            dtype,
            stored_only,
        )
    except EvaluationError as error:
        errors.print(f"[bold red]Error:[/bold red] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        errors.print(f"Stopped. What is finished is in {folder}: run the same command to go on.")
        raise typer.Exit(STOPPED) from None


def _run(
    archive: Path,
    suite_name: str,
    data: tuple[str, str],
    folder: Path,
    transfer: Path | None,
    limits: dict[str, Any],
    seed: int,
    threads: int,
    dtype: str,
    stored_only: bool,
) -> None:
    import torch
    from accelerate import PartialState

    from videopure.evaluation.archives import (
        as_dtype,
        load_evaluated,
        second_recogniser,
        thresholds,
    )
    from videopure.evaluation.data import open_source
    from videopure.evaluation.defences.registry import line_up
    from videopure.evaluation.report.html import check_tools, write_report
    from videopure.evaluation.report.output import print_tables, write_tables
    from videopure.evaluation.runner import Evaluator, seconds_alone
    from videopure.evaluation.store import EvaluationError, Store
    from videopure.evaluation.suites import SUITES, make_suite
    from videopure.format.opening import digest_archive
    from videopure.purifier.memory import peak_memory

    if suite_name not in SUITES:
        raise EvaluationError(f"suite must be one of {', '.join(SUITES)}, got {suite_name!r}")
    check_tools()
    torch.set_num_threads(threads)
    # Processes wait for the slowest one at the end, however long that takes.
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=30))
    loaded = load_evaluated(archive, state.device, as_dtype(dtype))
    defended = loaded.defended
    source = open_source(data[0], defended.recogniser, data[1], loaded.settings.limits)
    other = second_recogniser(transfer, defended.recogniser, state.device)
    line = line_up(defended)
    suite = make_suite(suite_name, line, transfer=other is not None, **limits)
    source.check(suite.clips)
    question = {
        "archive": digest_archive(archive),
        "data": source.describe(),
        "transfer": other.name if other is not None else None,
        "seed": seed,
        "threads": threads,
        "device": state.device.type,
        "torch": torch.__version__,
        **({} if dtype == "float32" else {"dtype": dtype}),
    }
    with state.main_process_first():
        store = Store(folder, question, state.process_index)
    evaluator = Evaluator(line, defended.recogniser, source, other, seed, state.device)
    if not stored_only:
        _compute(evaluator, suite, store, state)
    if state.is_main_process:
        summary = write_tables(store, suite, defended.recogniser.labels, thresholds(defended))
        print_tables(summary, console)
        if not stored_only:
            console.print(f"seconds for one clip alone, median: {seconds_alone(evaluator)}")
            console.print(f"Peak memory of this process: {peak_memory(state.device) / 1e6:.0f} MB")
        report = write_report(store, summary, suite.records(store))
        console.print(f"Report: {report}   every answer: {folder / 'clips.csv'}", soft_wrap=True)


def _compute(evaluator: Evaluator, suite: Suite, store: Store, state: PartialState) -> None:
    """This process's part of the suite; waits for the others."""
    from videopure.evaluation.runner import run_suite

    units = suite.units()[state.process_index :: state.num_processes]
    with _progress(state.is_main_process) as progress:
        task = progress.add_task("evaluating", total=sum(u.count * len(u.defences) for u in units))
        run_suite(
            evaluator,
            suite,
            store,
            process=state.process_index,
            processes=state.num_processes,
            on_unit=lambda unit: progress.update(
                task,
                advance=unit.count * len(unit.defences),
                description=unit.threat.name,
            ),
        )
    state.wait_for_everyone()


def _progress(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=not shown,
    )
