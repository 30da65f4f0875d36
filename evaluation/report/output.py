"""The results of an evaluation as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from videopure.evaluation.defences.purifiers import VIDEOPURE
from videopure.evaluation.report.summary import summarise
from videopure.evaluation.report.tables import make_tables
from videopure.evaluation.store import Record, Store
from videopure.evaluation.suites import Suite

__all__ = ["markdown", "write_tables"]


def write_tables(
    store: Store,
    suite: Suite,
    labels: Sequence[str],
    thresholds: dict[str, float],
    others: Sequence[Record] = (),
    *,
    served: str = VIDEOPURE,
) -> dict[str, Any]:
    """Write `clips.csv`, `tables.md` and `summary.json`; returns the summary.

    Args:
        store: the results, perhaps including other suites.
        suite: the suite whose results are written.
        labels: the class names.
        thresholds: thresholds of the suspicion score, by name; the first is served.
        others: answers of other archives, for the same tables.
        served: the defence that the archive serves.
    """
    own = suite.records(store)
    records = [*own, *others]
    figures = summarise(records, thresholds, served)
    summary = {
        "labels": list(labels),
        "thresholds": thresholds,
        "suite": suite.name,
        "missing": suite.missing(own),
        **figures,
    }
    store.write("clips.csv", _csv(records, labels))
    store.write("summary.json", json.dumps(summary, indent=1) + "\n")
    store.write("tables.md", markdown(summary))
    return summary


def markdown(summary: dict[str, Any]) -> str:
    """All tables of a summary in Markdown."""
    tables = make_tables(summary)
    return "".join(f"### {table.title}\n\n{table.markdown()}\n\n" for table in tables)


def _csv(records: Sequence[Record], labels: Sequence[str]) -> str:
    """One line for each answer."""
    text = io.StringIO()
    names = [field.name for field in fields(Record) if field.name not in ("fidelity", "gradient")]
    fidelity = ["psnr", "ssim", "warping_error_before", "warping_error_after"]
    writer = csv.DictWriter(text, [*names, "truth_label", "answered_label", "right", *fidelity])
    writer.writeheader()
    for record in records:
        row = asdict(record)
        row |= {"votes": " ".join(map(str, record.votes))}
        row |= {"timesteps": " ".join(map(str, record.timesteps))}
        row |= {"truth_label": labels[record.truth], "answered_label": labels[record.label]}
        row |= {"right": int(record.right), **(row.pop("fidelity") or {})}
        del row["gradient"]
        writer.writerow(row)
    return text.getvalue()
