"""The tables of an evaluation: printed in Markdown, and written as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from videopure.evaluation.line_up import VIDEOPURE
from videopure.evaluation.store import Record, Store
from videopure.evaluation.suites import Suite
from videopure.evaluation.summary import summarise

__all__ = ["print_tables", "share_cell", "write_tables"]


def write_tables(
    store: Store, suite: Suite, labels: Sequence[str], thresholds: dict[str, float]
) -> dict[str, Any]:
    """Write `clips.csv` and `summary.json`; answers the summary.

    Args:
        store: the results, perhaps of other suites too.
        suite: whose results are wanted.
        labels: the class names.
        thresholds: of the suspicion score, by what they are called; the first is served.
    """
    records = [record for record in store.records() if suite.holds(record)]
    figures = summarise(records, thresholds)
    summary = {"labels": list(labels), "thresholds": thresholds, "suite": suite.name, **figures}
    store.write("clips.csv", _csv(records, labels))
    store.write("summary.json", json.dumps(summary, indent=1) + "\n")
    return summary


def _csv(records: Sequence[Record], labels: Sequence[str]) -> str:
    """One line for each answer."""
    text = io.StringIO()
    names = [field.name for field in fields(Record) if field.name != "fidelity"]
    fidelity = ["psnr", "ssim", "warping_error_before", "warping_error_after"]
    writer = csv.DictWriter(text, [*names, "truth_label", "answered_label", "right", *fidelity])
    writer.writeheader()
    for record in records:
        row = asdict(record)
        row |= {"votes": " ".join(map(str, record.votes))}
        row |= {"timesteps": " ".join(map(str, record.timesteps))}
        row |= {"truth_label": labels[record.truth], "answered_label": labels[record.label]}
        row |= {"right": int(record.right), **(row.pop("fidelity") or {})}
        writer.writerow(row)
    return text.getvalue()


def print_tables(summary: dict[str, Any], console: Console) -> None:
    """Print what matters most, in Markdown."""
    for make in (_accuracy, _paired, _worst, _suspicion, _alarms, _sanity):
        table = make(summary)
        if table.row_count:
            console.print(table)


def _accuracy(summary: dict[str, Any]) -> Table:
    threats = list(summary["threats"])
    table = Table("defence", *threats, "s/clip", box=MARKDOWN)
    for defence, row in summary["accuracy"].items():
        cells = [share_cell(row.get(threat)) for threat in threats]
        table.add_row(defence, *cells, f"{summary['seconds'][defence]:.2f}")
    return table


def _paired(summary: dict[str, Any]) -> Table:
    """Clips that only VideoPure (+) and that only the other (−) got right."""
    threats = list(summary["threats"])
    table = Table("against VideoPure", *threats, box=MARKDOWN)
    for defence, pairs in summary["paired"].items():
        counts = [pairs.get(threat) for threat in threats]
        table.add_row(
            defence,
            *("+{only_videopure} −{only_this}".format(**c) if c else "" for c in counts),
        )
    return table


def _alarms(summary: dict[str, Any]) -> Table:
    """Shares of clips whose suspicion exceeds the calibrated thresholds."""
    threats = list(summary["alarms"].get(VIDEOPURE, {}))
    table = Table(f"alarms of {VIDEOPURE}, calibrated to", *threats, box=MARKDOWN)
    for name in summary["thresholds"]:
        cells = [summary["alarms"].get(VIDEOPURE, {})[t][name] for t in threats]
        table.add_row(name, *(f"{share:.1%}" for share in cells))
    return table


def _worst(summary: dict[str, Any]) -> Table:
    budgets = sorted({int(e) for row in summary["worst_case"].values() for e in row})
    table = Table("worst case of", *(f"{e}/255" for e in budgets), box=MARKDOWN)
    for defence, row in summary["worst_case"].items():
        cells = []
        for epsilon in budgets:
            worst = row.get(str(epsilon))
            note = "" if worst is None or worst["adaptive"] else ", none adaptive"
            attacks = f" of {worst['attacks']} attacks{note}" if worst else ""
            cells.append(share_cell(worst) + attacks)
        table.add_row(defence, *cells)
    return table


def _suspicion(summary: dict[str, Any]) -> Table:
    table = Table(
        *("suspicion", "attack", "ROC AUC", "alarms at 1 %", "at 5 %", "fooled and silent"),
        box=MARKDOWN,
    )
    for defence, row in summary["suspicion"].items():
        for threat, found in row.items():
            table.add_row(
                defence,
                threat,
                f"{found['auc']:.3f}",
                f"{found['alarms_at_1_percent']:.0%}",
                f"{found['alarms_at_5_percent']:.0%}",
                share_cell(found.get("fooled_and_silent")),
            )
    return table


def _sanity(summary: dict[str, Any]) -> Table:
    table = Table("check", "holds", "found", box=MARKDOWN)
    for check in summary["sanity"]:
        table.add_row(check["check"], "yes" if check["holds"] else "NO", check["detail"])
    return table


def share_cell(share: dict[str, float] | None) -> str:
    """A share with its interval and its number of clips."""
    if share is None:
        return ""
    return f"{share['share']:.0%} ({share['low']:.0%}–{share['high']:.0%}, n={share['clips']})"
