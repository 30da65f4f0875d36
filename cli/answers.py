"""How `videopure predict` prints answers: a table for people, CSV and JSON for scripts."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from videopure.cli.terminal import console, errors
from videopure.client.errors import ClientError
from videopure.wire.schemas import Answer, Prediction

__all__ = ["Result", "print_csv", "print_json", "print_table", "short_names"]

Result = Answer | ClientError | OSError
Results = Iterable[tuple[Path, Result]]

_CSV_FIELDS = (
    *("file", "label", "label_id", "score", "undefended_label", "undefended_score"),
    *("votes_counted", "votes_of", "agreement", "suspicion", "adversarial", "warnings", "error"),
)
# Heading of each column, and its legend. A column is shown if it has values.
_LEGEND = {
    "VideoPure": "label and score after purification",
    "bare recogniser": "label and score of the recogniser alone, without VideoPure",
    "votes": "votes counted, out of all that a full count has",
    "suspicion": "0 to 1; ! exceeds the archive's threshold: probably an attack",
}
_NARROW = ("votes", "suspicion")


def print_json(results: Results) -> bool:
    """Print one line of JSON for each video as it is answered; returns whether one failed."""
    failed = False
    for file, result in results:
        answered = isinstance(result, Answer)
        failed |= not answered
        body = result.model_dump() if isinstance(result, Answer) else {"error": _message(result)}
        print(json.dumps({"file": str(file), **body}), flush=True)
    return failed


def print_csv(results: Results) -> bool:
    """Print one row for each video as it is answered; returns whether one failed."""
    failed = False
    writer = csv.DictWriter(sys.stdout, _CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for file, result in results:
        failed |= not isinstance(result, Answer)
        writer.writerow({"file": str(file), **_csv_row(result)})
    return failed


def print_table(results: Results, out: Console = console, err: Console = errors) -> bool:
    """Print a table and its legend, then the errors in full; returns whether one failed."""
    collected = list(results)
    names = short_names([file for file, _ in collected])
    answers = {
        name: result
        for name, (_, result) in zip(names, collected, strict=True)
        if isinstance(result, Answer)
    }
    if answers:
        _print_answers(answers, out, err)
    failed: dict[str, list[str]] = {}  # files by message: one cause is reported once
    for name, (_, result) in zip(names, collected, strict=True):
        if not isinstance(result, Answer):
            failed.setdefault(_message(result), []).append(name)
    for message, those in failed.items():
        which = those[0] if len(those) == 1 else f"{len(those)} videos ({', '.join(those)})"
        err.print(
            f"[bold red]Error:[/bold red] {escape(f'{which}: {message}')}",
            highlight=False,
            soft_wrap=True,
        )
    return bool(failed)


def _print_answers(answers: dict[str, Answer], out: Console, err: Console) -> None:
    rows = {name: _cells(answer) for name, answer in answers.items()}
    shown = [heading for heading in _LEGEND if any(row[heading] for row in rows.values())]
    columns = [Column("video", overflow="fold")]
    for heading in shown:
        narrow = heading in _NARROW
        columns.append(Column(heading, no_wrap=narrow, overflow="fold"))
    table = Table(*columns, box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name, row in rows.items():
        table.add_row(escape(name), *(row[heading] for heading in shown))
    out.print(table)
    out.print()
    for heading in shown:
        out.print(f"{heading}: {_LEGEND[heading]}", highlight=False)
    seconds = [answer.timing_ms["total"] / 1000 for answer in answers.values()]
    mean = sum(seconds) / len(seconds)
    out.print(f"time in the server: {mean:.1f} s a video, on average", highlight=False)
    for name, answer in answers.items():
        for warning in answer.warnings:
            text = escape(f"{name}: {warning}")
            err.print(f"[yellow]Warning:[/yellow] {text}", highlight=False, soft_wrap=True)


def short_names(files: Sequence[Path]) -> list[str]:
    """The files' paths without the folders that all of them share."""
    shared = os.path.commonpath([str(file.parent) for file in files] or [""])
    return [os.path.relpath(file, shared or ".") for file in files]


def _cells(answer: Answer) -> dict[str, str]:
    """The cells of one answer by heading; empty where the answer says nothing."""
    votes, suspicion = answer.votes, answer.suspicion
    best, bare = answer.predictions[0], answer.undefended
    purified = answer.purification is not None
    if not purified:  # the answer is the bare recogniser's
        bare = best
    mark = " !" if suspicion and suspicion.adversarial else ""
    return {
        "VideoPure": _prediction(best) if purified else "",
        "bare recogniser": _prediction(bare) if bare else "",
        "votes": f"{votes.counted} of {votes.of}" if votes else "",
        "suspicion": f"{_number(suspicion.score)}{mark}".strip() if suspicion else "",
    }


def _prediction(prediction: Prediction) -> str:
    return escape(f"{prediction.label} {_number(prediction.score)}".rstrip())


def _number(score: float | None) -> str:
    """A score, or nothing if the server does not tell it."""
    return "" if score is None else f"{score:.2f}"


def _csv_row(result: Result) -> dict[str, Any]:
    if not isinstance(result, Answer):
        return {"error": _message(result)}
    best, votes, suspicion = result.predictions[0], result.votes, result.suspicion
    bare = result.undefended
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
        "warnings": "; ".join(result.warnings),
    }


def _message(error: ClientError | OSError) -> str:
    return str(error) or type(error).__name__
