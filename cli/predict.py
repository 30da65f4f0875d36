"""`videopure predict`: what many videos show."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from videopure.cli.options import AsJson, KeyFile, Model, Url
from videopure.cli.terminal import console, errors, fail
from videopure.client.api import VideoPureClient
from videopure.client.errors import ClientError
from videopure.wire.schemas import Answer, Prediction

__all__ = ["evidence_names", "find_videos", "predict"]

SUFFIXES = frozenset(
    f".{ending}"
    for ending in ("mp4", "m4v", "mov", "mkv", "webm", "avi", "gif", "mpg", "mpeg", "ts", "flv")
)
_CSV_FIELDS = (
    *("file", "label", "label_id", "score", "undefended_label", "undefended_score"),
    *("votes_counted", "votes_of", "agreement", "suspicion", "adversarial", "warnings", "error"),
)

Result = Answer | ClientError | OSError


def predict(
    videos: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    url: Url = "http://127.0.0.1:8080",
    model: Model = "videopure",
    key_file: KeyFile = Path("key_file.json"),
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, one line for each video.")] = False,
    save_purified: Annotated[
        Path | None,
        typer.Option(help="Folder for videos of the clip as sent, purified, and the difference."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Predictions in an answer.")] = None,
    inversion_steps: Annotated[int | None, typer.Option(help="The paper's t.")] = None,
    votes: Annotated[str | None, typer.Option(help="early or full.")] = None,
    method: Annotated[
        str | None, typer.Option(help="videopure, one_look, ddim_inversion, ddim, ddpm.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of methods that draw noise.")] = None,
    clips: Annotated[int | None, typer.Option(help="Parts of a video to look at.")] = None,
    purify: Annotated[bool, typer.Option(help="Or ask the bare recogniser alone.")] = True,
    concurrency: Annotated[int, typer.Option(min=1, help="Videos sent at a time.")] = 4,
    header: Annotated[
        list[str] | None,
        typer.Option(help="'Name: value' that a proxy in front asks for; may be given again."),
    ] = None,
) -> None:
    """Ask a running server what videos show.

    Exit code 0: all were answered; 1: some were not; 2: wrong usage.
    """
    if as_json and as_csv:
        raise fail("give --json or --csv, not both", code=2)
    files = find_videos(videos)
    options = {
        "top_k": top_k,
        "inversion_steps": inversion_steps,
        "votes": votes,
        "method": method,
        "seed": seed,
        "clips": clips,
        "purify": None if purify else False,
    }
    chosen = {name: value for name, value in options.items() if value is not None}
    if save_purified is not None:
        save_purified.mkdir(parents=True, exist_ok=True)
    headers = _headers(header or [])
    with VideoPureClient(url, model=model, key_file=key_file, headers=headers) as client:
        answers = _ask(client, files, chosen, save_purified, concurrency)
        failed = _print(answers, as_json=as_json, as_csv=as_csv)
    raise typer.Exit(int(failed))


def _headers(lines: Sequence[str]) -> dict[str, str]:
    pairs = [line.partition(":") for line in lines]
    if wrong := [name for name, colon, _ in pairs if not (name.strip() and colon)]:
        # Not all of it: it may be a secret.
        raise fail(f"--header must be 'Name: value', got {wrong[0][:20]!r}", code=2)
    return {name.strip(): value.strip() for name, _, value in pairs}


def find_videos(arguments: Sequence[str]) -> list[Path]:
    """The files that are meant: folders give the videos below them, globs what they match.

    Raises:
        typer.Exit: after saying which argument means nothing.
    """
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            below = [path]
        else:
            below = [Path(p) for p in sorted(glob(argument, recursive=True)) if Path(p).is_file()]
        if not below:
            raise fail(f"no video at {argument}", code=2)
        found += below
    return list(dict.fromkeys(found))


def _ask(
    client: VideoPureClient,
    files: Sequence[Path],
    options: dict[str, Any],
    save: Path | None,
    concurrency: int,
) -> Iterator[tuple[Path, Result]]:
    """Files and answers in order, with a progress bar; evidence is saved under `save`."""
    names = evidence_names(files)

    def ask(numbered: tuple[int, Path]) -> Result:
        number, file = numbered
        try:
            if save is None:
                return client.predict(file, **options)
            evidence = client.explain(file, **options)
            (save / names[number]).write_bytes(evidence.video)
            return evidence.answer
        except (ClientError, OSError) as error:
            return error

    columns = (TextColumn("Asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=errors, transient=True) as progress,
        ThreadPoolExecutor(concurrency) as pool,
    ):
        task = progress.add_task("", total=len(files))
        for file, answer in zip(files, pool.map(ask, enumerate(files)), strict=True):
            progress.advance(task)
            yield file, answer


def evidence_names(files: Sequence[Path]) -> list[str]:
    """A name of its own for the evidence of each file: files of several folders may share one."""
    names: list[str] = []
    taken: set[str] = set()  # in small letters: some file systems do not tell them from large ones
    for file in files:
        candidates = chain([file.stem], (f"{file.stem}-{number}" for number in count(2)))
        name = next(name for name in candidates if name.lower() not in taken)
        taken.add(name.lower())
        names.append(f"{name}-purified.mp4")
    return names


def _print(answers: Iterator[tuple[Path, Result]], *, as_json: bool, as_csv: bool) -> bool:
    """Print the answers as they come (a table: at the end); whether one failed."""
    failed = False
    warned: list[str] = []
    table = _table()
    writer = csv.DictWriter(sys.stdout, _CSV_FIELDS, lineterminator="\n")
    if as_csv:
        writer.writeheader()
    for file, answer in answers:
        failed |= not isinstance(answer, Answer)
        if as_json:
            body = answer.model_dump() if isinstance(answer, Answer) else {"error": _told(answer)}
            print(json.dumps({"file": str(file), **body}), flush=True)
        elif as_csv:
            writer.writerow({"file": str(file), **_csv_row(answer)})
        else:
            table.add_row(str(file), *_cells(answer))
        if isinstance(answer, Answer):
            warned += [f"{file}: {warning}" for warning in answer.warnings]
    if not (as_json or as_csv):
        console.print(table)
        for warning in warned:
            errors.print(f"Warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    return failed


def _told(error: ClientError | OSError) -> str:
    return str(error) or type(error).__name__


def _csv_row(answer: Result) -> dict[str, Any]:
    if not isinstance(answer, Answer):
        return {"error": _told(answer)}
    best, votes, suspicion = answer.predictions[0], answer.votes, answer.suspicion
    bare = answer.undefended
    return {
        "label": best.label,
        "label_id": best.label_id,
        "score": best.score,
        "undefended_label": bare.label if bare else "",
        "undefended_score": bare.score if bare else "",
        "votes_counted": votes.counted if votes else "",
        "votes_of": votes.of if votes else "",
        "agreement": votes.agreement if votes else "",
        "suspicion": suspicion.score if suspicion else "",
        "adversarial": suspicion.adversarial if suspicion else "",
        "warnings": "; ".join(answer.warnings),
    }


def _table() -> Table:
    headings = ("video", "VideoPure", "bare recogniser", "votes", "suspicion", "ms")
    return Table(*headings, box=SIMPLE, pad_edge=False, collapse_padding=True)


def _cells(answer: Result) -> list[str]:
    if not isinstance(answer, Answer):
        return [f"[red]{escape(_told(answer))}[/red]"]
    best, bare = answer.predictions[0], answer.undefended
    votes, suspicion = answer.votes, answer.suspicion
    mark = " !" if suspicion and suspicion.adversarial else ""
    return [
        _prediction(best),
        _prediction(bare) if bare else "",
        f"{votes.counted} of {votes.of}" if votes else "",
        f"{_number(suspicion.score)}{mark}" if suspicion else "",
        f"{answer.timing_ms['total']:.0f}",
    ]


def _prediction(prediction: Prediction) -> str:
    return escape(f"{prediction.label} {_number(prediction.score)}".rstrip())


def _number(score: float | None) -> str:
    """A score, or nothing where the server does not tell it."""
    return "" if score is None else f"{score:.2f}"
