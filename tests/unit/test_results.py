"""What an evaluation reports, on results whose figures are known."""

import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from videopure.demo.results import VIDEOPURE, Evaluation, print_summary

pytestmark = pytest.mark.unit

ASKED = {"split": "test", "thresholds": {"0.01": 0.5}}


def evaluation() -> Evaluation:
    """Four clips; the slow comparison saw the first two."""
    result = Evaluation(dict(ASKED), done=4, seconds={"bare": 0.1, VIDEOPURE: 0.5})
    truth = torch.tensor([0, 1, 2, 3])
    for attack, bare in (("clean", [0, 1, 2, 0]), ("PGD", [1, 0, 2, 0])):
        result.add("none", attack, torch.tensor(bare), truth)
        result.add(VIDEOPURE, attack, torch.tensor([0, 1, 0, 3]), truth)
        result.add("slow", attack, torch.tensor([0, 0]), truth[:2])
    result.suspicion = {"clean": [0.0, 0.1, 0.2, 0.6], "PGD": [0.9, 0.6, 0.1, 0.7]}
    return result


def test_summary_counts_shares_pairs_and_alarms() -> None:
    summary = evaluation().summary()
    assert summary["accuracy"]["none"]["clean"]["share"] == 0.75
    assert summary["accuracy"]["none"]["PGD"]["share"] == 0.25
    assert summary["accuracy"]["slow"]["PGD"]["clips"] == 2
    assert summary["paired"]["none"] == {"clean": (1, 1), "PGD": (3, 1)}
    assert summary["paired"]["slow"]["clean"] == (1, 0)
    assert summary["alarms"] == {"clean": {"0.01": 0.25}, "PGD": {"0.01": 0.75}}
    # Of the 16 pairs PGD's score is higher in 12 and equal in 2.
    assert summary["suspicion_auc"]["PGD"] == 13 / 16


def test_the_same_question_goes_on_and_another_starts_afresh(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    stored = evaluation()
    stored.save(path)
    assert Evaluation.resume(path, dict(ASKED)) == stored
    assert Evaluation.resume(path, {**ASKED, "split": "validation"}).done == 0
    assert Evaluation.resume(tmp_path / "none.json", dict(ASKED)).done == 0
    assert json.loads(path.read_text())["summary"]["seconds_per_clip"]["bare"] == 0.1
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_tables_are_markdown_with_intervals() -> None:
    text = StringIO()
    print_summary(evaluation().summary(), Console(file=text, width=120))
    rows = [line.strip() for line in text.getvalue().splitlines() if line.startswith("|")]
    assert rows[0].split("|")[1].strip() == "defence"
    assert "| none | 75.0% (30%–95%) | 25.0% (5%–70%) | 4 |" in [
        " ".join(row.split()) for row in rows
    ]
    assert any("+3 −1" in row for row in rows)
