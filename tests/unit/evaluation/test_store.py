"""Stored results survive kills, full disks and other questions."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.records import QUESTION, RECORD
from videopure.evaluation.store import EvaluationError, Store

pytestmark = pytest.mark.unit


def test_units_of_all_processes_are_read_back(tmp_path: Path) -> None:
    first, second = (Store(tmp_path, QUESTION, writer) for writer in (0, 1))
    first.add("a", [RECORD, replace(RECORD, defence="other")])
    second.add("b", [replace(RECORD, clip=1)])
    again = Store(tmp_path, QUESTION)
    assert set(again.done()) == {("a", "none"), ("a", "other"), ("b", "none")}
    assert again.done()["a", "none"] == [RECORD]
    assert not again.done()["a", "none"][0].right


def test_a_line_cut_by_a_kill_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, QUESTION)
    store.add("a", [RECORD])
    store.add("b", [RECORD])
    file = tmp_path / "units-0.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert set(store.done()) == {("a", "none")}
    mended = Store(tmp_path, QUESTION)
    mended.add("c", [RECORD])
    assert set(mended.done()) == {("a", "none"), ("c", "none")}


def test_larger_batches_replace_overlapping_smaller_ones(tmp_path: Path) -> None:
    store = Store(tmp_path, QUESTION)
    store.add("0+2", [replace(RECORD, clip=clip, label=5) for clip in (0, 1)])
    store.add("0+1", [replace(RECORD, clip=0, label=6)])
    assert [(r.clip, r.label) for r in store.records()] == [(0, 5), (1, 5)]


def test_the_results_of_another_question_are_refused_and_kept(tmp_path: Path) -> None:
    Store(tmp_path, QUESTION).add("a", [RECORD])
    with pytest.raises(EvaluationError, match=r"another evaluation, with other seed: choose"):
        Store(tmp_path, {**QUESTION, "seed": 1})
    assert Store(tmp_path, QUESTION).done()


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    """/dev/full is the system's own full disk."""
    store = Store(tmp_path, QUESTION)
    store.add("a", [RECORD])
    full = Store(tmp_path, QUESTION, writer=1)
    (tmp_path / "units-1.jsonl").symlink_to("/dev/full")
    with pytest.raises(EvaluationError, match=r"disk of .* is full: make room and run the same"):
        full.add("b", [RECORD])
    os.unlink(tmp_path / "units-1.jsonl")
    assert set(Store(tmp_path, QUESTION).done()) == {("a", "none")}


def test_a_full_disk_keeps_the_report_of_before(tmp_path: Path) -> None:
    store = Store(tmp_path, QUESTION)
    store.write("report.html", "before")
    (tmp_path / "report.html.part").symlink_to("/dev/full")
    with pytest.raises(EvaluationError, match=r"disk of .* is full"):
        store.write("report.html", "after")
    assert (tmp_path / "report.html").read_text() == "before"


LIMITED = """
import resource, sys
from pathlib import Path
from tests.support.records import QUESTION, RECORD
from videopure.evaluation.store import EvaluationError, Store

store = Store(Path(sys.argv[1]), QUESTION)
store.add("a", [RECORD])
limit = int(2.5 * (Path(sys.argv[1]) / "units-0.jsonl").stat().st_size)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    for unit in "bcd":
        store.add(unit, [RECORD])
except EvaluationError as error:
    print(error)
"""


def test_units_finished_before_files_could_not_grow_are_kept(tmp_path: Path) -> None:
    """A disk that fills up in the middle of a line."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert "takes no larger files (ulimit -f): make room and run the same" in done.stdout, done
    assert not (tmp_path / "units-0.jsonl").read_bytes().endswith(b"\n")
    again = Store(tmp_path, QUESTION)
    assert set(again.done()) == {("a", "none"), ("b", "none")}
    again.add("c", [RECORD])
    assert set(again.done()) == {("a", "none"), ("b", "none"), ("c", "none")}


def test_other_faults_of_the_disk_stay_what_they_are(tmp_path: Path) -> None:
    store = Store(tmp_path, QUESTION)
    (tmp_path / "units-0.jsonl").mkdir()
    with pytest.raises(IsADirectoryError):
        store.add("a", [RECORD])


def test_whole_files_are_replaced_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path, QUESTION)
    path = store.write("examples/a.txt", "one")
    store.write("examples/a.txt", b"two")
    assert path.read_bytes() == b"two"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    assert json.loads((tmp_path / "question.json").read_text()) == QUESTION
