"""One self-contained HTML file with all results of an evaluation."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.defences.purifiers import VIDEOPURE
from videopure.evaluation.report.compact import compact
from videopure.evaluation.report.examples import Example, load_examples
from videopure.evaluation.report.headline import headline
from videopure.evaluation.report.tables import Table, make_tables
from videopure.evaluation.report.verdict import short_table, verdict
from videopure.evaluation.store import EvaluationError, Record, Store
from videopure.wire.installing import install_hint

__all__ = ["check_tools", "write_report"]

Summary = dict[str, Any]

# Title, the tables' keys and the pictures' names of each section.
SECTIONS = (
    ("Summary", ("strongest", "worst", "paper"), ("overview",)),
    ("Accuracy against the budget", (), ("curves",)),
    ("Attack by attack", ("accuracy", "queries", "adaptive", "drawn", "paired"), ()),
    ("Are the gradients what they seem?", ("sanity",), ()),
    ("Suspicion", ("suspicion", "alarms"), ("roc",)),
    ("Votes by timestep", ("votes",), ("votes",)),
    ("Fidelity", ("fidelity",), ()),
    ("Time", ("seconds", "cost"), ()),
    ("Not computed", ("missing",), ()),
)
CAPTIONS = {
    "overview": "Clips recognised: clean, and under the strongest attack of each kind and budget",
    "curves": "Accuracy against the largest change of a pixel; 0 is clean clips. Bands are 95 % "
    "intervals; of many defences, those tried at the most budgets that keep most are drawn",
    "roc": "Alarms of {served} on attacked against clean clips, over all thresholds: the "
    "attacks that it detects worst",
    "votes": "Right votes of {served}, of those that were counted, by timestep",
}
EXAMPLES = "Frames"
EACH = 1  # successes and failures shown per attack


@dataclass(frozen=True)
class Picture:
    """A PNG in base64, and what it shows."""

    alt: str
    data: str


def check_tools() -> None:
    """Check for the report's packages before anything is computed.

    Raises:
        EvaluationError: if one is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise EvaluationError(
            f"the report needs {error.name}: {install_hint('evaluate')}"
        ) from error


def write_report(
    store: Store,
    summary: Summary,
    records: Sequence[Record],
    *,
    served: str = VIDEOPURE,
    about: Mapping[str, str] | None = None,
) -> Path:
    """Write `report.html`, and its pictures as files into `figures/`; returns the report's path.

    Args:
        store: where it is written, and where the examples are.
        summary: see `videopure.evaluation.report.output.write_tables`.
        records: the answers behind the summary.
        served: the defence that the archive serves.
        about: what was evaluated, by name and value: models, versions, the date.
    """
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("videopure.evaluation.report")
    environment = Environment(loader=loader, autoescape=True)
    environment.filters["parts"] = _parts
    template = environment.get_template("report.html")
    pictures = _pictures(summary, records)
    for name, content in pictures.items():
        store.write(f"figures/{name}.png", content)
    tables = {table.key: table for table in make_tables(summary)}
    html = template.render(
        title="How robust is it?",
        ours=served,
        about=dict(about or {}),
        headline=headline(summary, served),
        verdict=verdict(summary),
        short=_first(short_table(summary), served),
        suite=summary["suite"],
        clips=len({record.clip for record in records}),
        answers=len(records),
        classes=len(summary["labels"]),
        warnings=_warnings(summary),
        sections=[
            *_sections(tables, pictures, served),
            *_example_sections(load_examples(store), summary),
        ],
        facts=_facts(store),
    )
    return store.write("report.html", html)


def _sections(
    tables: dict[str, Table], pictures: dict[str, bytes], served: str
) -> Iterable[dict[str, Any]]:
    for title, wanted, drawn in SECTIONS:
        section = {
            "key": title.lower().replace(" ", "-").rstrip("?"),
            "title": title,
            "tables": [
                (tables[key], compact(tables[key], served)) for key in wanted if key in tables
            ],
            "pictures": [
                Picture(CAPTIONS[name].format(served=served), _base64(pictures[name]))
                for name in drawn
                if name in pictures
            ],
        }
        if section["tables"] or section["pictures"]:
            yield section


def _pictures(summary: Summary, records: Sequence[Record]) -> dict[str, bytes]:
    from videopure.evaluation.report import figures

    drawn = {
        "overview": figures.overview(summary),
        "curves": figures.accuracy_curves(summary),
        "roc": figures.roc_curves(records, summary["served"]),
        "votes": figures.votes_by_timestep(summary),
    }
    return {name: content for name, content in drawn.items() if content is not None}


def _example_sections(
    examples: dict[str, list[Example]], summary: Summary
) -> Iterable[dict[str, Any]]:
    """For each attack of the suite, a clip that is answered correctly and one that is not."""
    from videopure.evaluation.report.figures import example_frames

    labels = summary["labels"]
    chosen = [
        example
        for threat in summary["threats"]
        for right in (False, True)
        for example in [e for e in examples.get(threat, []) if e.right == right][:EACH]
    ]
    if chosen:
        yield {
            "key": "frames",
            "title": EXAMPLES,
            "examples": [
                {
                    "threat": example.threat,
                    "clip": example.clip,
                    "truth": labels[example.truth],
                    "bare": labels[example.bare],
                    "label": labels[example.label],
                    "data": _base64(example_frames(example)),
                }
                for example in chosen
            ],
        }


def _warnings(summary: Summary) -> list[str]:
    """Warnings that a reader must see before any number."""
    found = []
    failed = [c for c in summary["sanity"] if c["holds"] is False]
    if failed:
        found.append(
            f"{len(failed)} of {len(summary['sanity'])} checks of the attacks' strength fail: see "
            "“Are the gradients what they seem?”."
        )
    if not any(t["knowledge"] == "adaptive" for t in summary["threats"].values()):
        found.append(
            "No attack here knows the defence. Such numbers say little about robustness: run a "
            "suite with adaptive attacks (quick, paper, white-box or full)."
        )
    if summary["missing"]:
        answered = sum(n["planned"] for row in summary["missing"].values() for n in row.values())
        done = sum(n["answered"] for row in summary["missing"].values() for n in row.values())
        found.append(
            f"The suite is not finished: {answered - done} planned answers to "
            f"{len(summary['missing'])} attacks are missing, listed under “Not computed”."
        )
    return found


def _facts(store: Store) -> dict[str, str]:
    """The question that the stored results answer."""
    question = json.loads((store.folder / "question.json").read_text(encoding="utf-8"))
    return {
        "command": "videopure evaluate; clips.csv, summary.json and tables.md are beside this file",
        **{name: _short(value) for name, value in question.items()},
    }


def _first(table: Table, served: str) -> Table:
    """The table with the served defence in the first row and the recogniser alone in the second."""
    order = {served: 0, NONE: 1}
    return replace(table, rows=tuple(sorted(table.rows, key=lambda row: order.get(row[0], 2))))


def _parts(cell: str) -> tuple[str, str]:
    """The main part of a cell and the rest: a share, and its interval and attack."""
    first, bracket, rest = cell.partition(" (")
    return (first, f"({rest}") if bracket else (cell, "")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
