"""The one call that evaluates an archive; `videopure evaluate` prints what it returns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from videopure.evaluation.archives import (
    as_dtype,
    load_evaluated,
    second_recogniser,
    thresholds,
)
from videopure.evaluation.attacks.queries import QUERIES
from videopure.evaluation.data import ClipSource, open_source
from videopure.evaluation.defences.purifiers import VIDEOPURE, served_name
from videopure.evaluation.defences.registry import make_defences
from videopure.evaluation.gate import Minimum, check_names, shortfalls
from videopure.evaluation.plan import BATCH
from videopure.evaluation.report.html import check_tools, write_report
from videopure.evaluation.report.output import markdown, write_tables
from videopure.evaluation.report.tables import Table
from videopure.evaluation.report.verdict import short_table, verdict
from videopure.evaluation.runner import Evaluator, run_suite, seconds_alone
from videopure.evaluation.store import EvaluationError, Record, Store, read_question
from videopure.evaluation.suites import Suite, Unit, as_suite, make_suite
from videopure.format.loading import LoadedArchive
from videopure.format.opening import digest_archive
from videopure.purifier import __version__

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = ["Evaluation", "Progress", "evaluate", "processes", "results_folder"]


@dataclass(frozen=True)
class Progress:
    """The progress of this process.

    Args:
        done, total: number of answers, one for each clip and defence.
        threat: name of the threat that was finished last.
    """

    done: int
    total: int
    threat: str


OnProgress = Callable[[Progress], object]


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Args:
        summary: all figures, as in `summary.json`.
        records: every answer of the suite, by threat, defence and clip.
        report: `report.html`; `tables.md`, `summary.json` and `clips.csv` are next to it.
        seconds_alone: median seconds for one clip alone, by defence; empty where nothing was
            computed.
        shortfalls: a sentence for each minimum of `fail_under` that was not reached.
    """

    summary: dict[str, Any]
    records: list[Record]
    report: Path
    seconds_alone: dict[str, float]
    shortfalls: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of all results."""
        return self.report.parent

    def accuracy(self, threat: str = "clean", defence: str = VIDEOPURE) -> float:
        """Share of clips that are recognised under a threat such as "PGD-10 4/255", in 0..1.

        Raises:
            ValueError: if that was not evaluated.
        """
        return self._share("accuracy", defence, threat)

    def worst_case(self, epsilon: int, defence: str = VIDEOPURE) -> float:
        """Share of clips that survive every attack of at most `epsilon` in 1/255, in 0..1.

        Raises:
            ValueError: if no attack of that budget was evaluated.
        """
        return self._share("worst_case", defence, str(epsilon))

    def verdict(self) -> list[str]:
        """The result in a few sentences."""
        return verdict(self.summary)

    def short_table(self) -> Table:
        """The accuracy of each defence under the strongest attack of each kind, in percent."""
        return short_table(self.summary)

    def markdown(self) -> str:
        """All tables in Markdown."""
        return markdown(self.summary)

    def _share(self, kind: str, defence: str, column: str) -> float:
        row = self.summary[kind].get(defence)
        if row is None or column not in row:
            known = self.summary[kind] if row is None else row
            raise ValueError(
                f"{kind} of {defence!r} at {column!r} was not evaluated; there is "
                f"{', '.join(map(repr, known)) or 'nothing'}"
            )
        return float(row[column]["share"])


def evaluate(
    archive: str | Path,
    *,
    suite: str = "quick",
    data: str | Path | ClipSource = "demo",
    split: str = "test",
    out: str | Path | None = None,
    beside: Sequence[str | Path] = (),
    transfer: str | Path | None = None,
    clips: int | None = None,
    queries: int = QUERIES,
    batch: int = BATCH,
    threats: Sequence[str] = (),
    defences: Sequence[str] = (),
    seed: int = 0,
    threads: int = 2,
    dtype: str = "float32",
    stored_only: bool = False,
    fail_under: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Attack what an archive serves, and report how well it holds.

    Finished work is stored at once; the same call resumes a stopped one. Several
    processes that torchrun started share the work and return the same.

    Args:
        archive: made by `videopure build`.
        suite: one of `videopure.evaluation.suites.SUITES`.
        data: `demo`, a folder with a folder of videos for each class, or a CSV with the columns
            path and label.
        split: split of the demo's clips, `test` or `validation`.
        out: folder of the results; see `results_folder` for the default.
        beside: folders of other archives' results on the same clips, such as the control's. Their
            results of the suite appear in the same tables, in rows named "FOLDER: DEFENCE".
        transfer: folder of a second recogniser to transfer attacks from; for the demo it is known.
        clips: at most this many clips for any threat.
        queries: queries of the server for each clip, in the suite `queries`.
        batch: clips that are attacked at once. Dozens suit a GPU; random draws, and so the numbers,
            depend on it.
        threats, defences: names to keep, out of those that the suite plans; all when empty.
        seed: seed of all random draws.
        threads: CPU threads per process.
        dtype: precision of the models. Half precision rounds gradients away, and attacks look
            weaker.
        stored_only: attack nothing; report the results stored so far.
        fail_under: lowest shares of clips recognised, each `[DEFENCE: ]THREAT=SHARE`, such as
            "worst case 4/255=0.8"; without a defence it applies to what the archive serves.
            `shortfalls` of the result names those that were not reached.
        on_progress: called after every unit of work of this process.

    Raises:
        EvaluationError: if the archive, the clips or an option cannot be evaluated, or the folder
            holds the results of another evaluation.
    """
    name, precision = as_suite(suite), as_dtype(dtype)
    minimums = [Minimum.parse(text) for text in fail_under]
    check_tools()
    state, archive = processes(), Path(archive)
    loaded = load_evaluated(archive, state.device, precision)
    defended, recogniser = loaded.defended, loaded.defended.recogniser
    if isinstance(data, ClipSource):
        source = data
    else:
        source = open_source(str(data), recogniser, split, loaded.settings.limits)
    second = second_recogniser(_path(transfer), recogniser, state.device)
    served = served_name(defended.settings)
    evaluator = Evaluator(
        *(make_defences(defended), recogniser, source, second),
        seed=seed,
        device=state.device,
        served=served,
    )
    planned = make_suite(
        name,
        evaluator.defences,
        clips=clips,
        transfer=second is not None,
        only_threats=threats,
        only_defences=defences,
        queries=queries,
        batch=batch,
    )
    check_names(minimums, planned, served)
    source.check(planned.clips)
    question = _question(archive, evaluator, threads, precision, batch)
    others = _others(beside, question)
    with state.main_process_first():
        folder = _path(out) or results_folder(archive, split)
        if stored_only:
            question = {**read_question(folder), **{k: question.get(k) for k in _MEANT}}
        store = Store(folder, question, state.process_index)
    alone: dict[str, float] = {}
    if not stored_only:
        with _threads(threads):
            _compute(evaluator, planned, store, state, on_progress)
            alone = seconds_alone(evaluator) if state.is_main_process else {}
    known = make_suite(name, evaluator.defences, clips=clips, only_threats=threats, queries=queries)
    answers = [
        replace(record, defence=f"{label}: {record.defence}")
        for label, other in others.items()
        for record in known.records(other)
    ]
    result = _report(
        *(planned, store, answers, state, loaded, _about(archive, loaded, question)), alone
    )
    return replace(result, shortfalls=tuple(shortfalls(minimums, result.summary, served)))


def results_folder(archive: Path, split: str = "test") -> Path:
    """Where results go when no other folder is named: `evaluation-out/ARCHIVE`."""
    return Path("evaluation-out") / (archive.stem if split == "test" else f"{archive.stem}-{split}")


def processes() -> PartialState:
    """The processes that share the work: this one alone, or those that torchrun started."""
    from accelerate import PartialState

    # Processes wait for the slowest one at the end, however long that takes.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=30))


def _question(
    archive: Path, evaluator: Evaluator, threads: int, dtype: str, batch: int
) -> dict[str, Any]:
    """All that the numbers depend on except the suite; one folder holds the answers to one."""
    return {
        "archive": digest_archive(archive),
        "data": evaluator.source.describe(),
        "transfer": evaluator.transfer.name if evaluator.transfer is not None else None,
        "seed": evaluator.seed,
        "threads": threads,
        "device": evaluator.device.type,
        "torch": torch.__version__,
        **({} if dtype == "float32" else {"dtype": dtype}),
        **({} if batch == BATCH else {"batch": batch}),
    }


def _about(archive: Path, loaded: LoadedArchive, question: dict[str, Any]) -> dict[str, str]:
    """What the report says about the evaluated archive."""
    manifest, settings = loaded.manifest, loaded.settings.purification
    return {
        "archive": f"{archive.name}: {manifest.name} {manifest.version}",
        "recogniser": manifest.recogniser.name,
        "purifier": f"{manifest.purifier.name}, {settings.method}, t={settings.inversion_steps}",
        "digest": question["archive"],
        "versions": f"VideoPure {__version__}, torch {question['torch']}",
        "date": datetime.now(UTC).strftime("%-d %B %Y"),
    }


# What results must share for their rows to be comparable.
_SHARED = ("data", "transfer", "seed", "dtype")
# What must match for stored results to be reported; another machine may have computed them.
_MEANT = ("archive", *_SHARED)


def _others(folders: Sequence[str | Path], question: dict[str, Any]) -> dict[str, Store]:
    """Results of other archives on the same clips and seed, by the names of their folders.

    Raises:
        EvaluationError: if one holds no such results, or two have the same name.
    """
    found: dict[str, Store] = {}
    ours = json.loads(json.dumps(question))
    for folder in map(Path, folders):
        asked = read_question(folder)
        changed = [key for key in _SHARED if asked.get(key) != ours.get(key)]
        if changed:
            raise EvaluationError(
                f"beside: {folder} holds results with other {', '.join(changed)}, which cannot be "
                "compared with these"
            )
        if folder.resolve().name in found:
            raise EvaluationError(f"beside: two folders are named {folder.resolve().name!r}")
        found[folder.resolve().name] = Store(folder, asked)
    return found


def _compute(
    evaluator: Evaluator,
    suite: Suite,
    store: Store,
    state: PartialState,
    on_progress: OnProgress | None,
) -> None:
    """This process's part of the suite; waits for the others."""
    units = suite.units()[state.process_index :: state.num_processes]
    total, done = sum(map(_answers, units)), 0

    def advance(unit: Unit) -> None:
        nonlocal done
        done += _answers(unit)
        if on_progress is not None:
            on_progress(Progress(done, total, unit.threat.name))

    run_suite(
        evaluator,
        suite,
        store,
        process=state.process_index,
        processes=state.num_processes,
        on_unit=advance,
    )
    state.wait_for_everyone()


def _report(
    suite: Suite,
    store: Store,
    others: Sequence[Record],
    state: PartialState,
    loaded: LoadedArchive,
    about: dict[str, str],
    alone: dict[str, float],
) -> Evaluation:
    """The main process writes; the others read what it wrote."""
    defended = loaded.defended
    labels, limits = defended.recogniser.labels, thresholds(defended)
    served = served_name(defended.settings)
    records = [*suite.records(store), *others]
    with state.main_process_first():
        if state.is_main_process:
            summary = write_tables(store, suite, labels, limits, others, served=served)
            write_report(store, summary, records, served=served, about=about)
    summary = json.loads((store.folder / "summary.json").read_text(encoding="utf-8"))
    return Evaluation(summary, records, store.folder / "report.html", alone)


def _answers(unit: Unit) -> int:
    return unit.count * len(unit.defences)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set torch's number of CPU threads temporarily."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
