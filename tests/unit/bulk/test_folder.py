"""The folder of a run: one block for each video, one file for each block, whatever is killed."""

from pathlib import Path

import pytest

from tests.support.answers import full_answer
from videopure.bulk.columns import SCHEMA, as_table, read_row
from videopure.bulk.errors import ScreenError
from videopure.bulk.folder import Block, Folder
from videopure.bulk.sources import Source
from videopure.bulk.summary import summarise
from videopure.wire.schemas import Answer, ErrorAnswer

pytestmark = pytest.mark.unit

ERROR = {"code": 415, "type": "NotAVideoError", "message": "no", "request_id": "b"}


def sources(*numbers: int) -> list[Source]:
    return [Source(f"/videos/{n}.mp4", 100) for n in numbers]


def paths(blocks: list[Block]) -> list[str]:
    return [source.path for block in blocks for source in block.sources]


def answer(folder: Folder, block: Block) -> None:
    """What a worker does."""
    folder.note_try(block.name)
    rows = [{"path": s.path, "bytes": s.size, "answer": full_answer()} for s in block.sources]
    folder.write_answers(block.name, as_table(rows))


def test_what_is_planned_and_not_answered_is_to_be_done(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    todo, total = folder.plan(sources(*range(10)), workers=2, most_videos=3)
    assert total == 10
    assert [len(block.sources) for block in todo] == [3, 3, 3, 1]
    answer(folder, todo[1])
    # Another process, after a kill; new videos, and sources in another order.
    again = Folder(str(tmp_path))
    again.begin()
    left, total = again.plan(sources(11, *reversed(range(10))), workers=2, most_videos=2)
    assert total == 11
    assert [block.name for block in left[:3]] == [todo[0].name, todo[2].name, todo[3].name]
    assert sorted(paths(left)) == sorted([*paths([todo[0], *todo[2:]]), "/videos/11.mp4"])
    # A worker that the kill left behind ends its block: its answers are replaced, not doubled.
    for block in (todo[0], *left):
        answer(again, block)
    rows = [row for table in again.answers(["path"]) for row in table["path"].to_pylist()]
    assert sorted(rows) == sorted(s.path for s in sources(*range(10), 11))
    assert again.plan(sources(*range(12)[:10], 11), workers=2)[0] == []


def test_blocks_hold_so_many_bytes_and_shares_for_all_workers(tmp_path: Path) -> None:
    large = [Source("/a", 1 << 25), Source("/b", 1 << 25), Source("/c", 1 << 40), Source("/d")]
    todo, _ = Folder(str(tmp_path / "large")).plan(large, workers=1, most_videos=9)
    assert [len(block.sources) for block in todo] == [2, 1, 1]
    todo, _ = Folder(str(tmp_path / "many")).plan(sources(*range(640)), workers=4)
    assert {len(block.sources) for block in todo} == {5}
    todo, _ = Folder(str(tmp_path / "few")).plan(sources(*range(9)), workers=4)
    assert [len(block.sources) for block in todo] == [4, 4, 1]


def test_half_written_files_and_old_tries_are_forgotten(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    (tmp_path / "answers").mkdir()
    half = tmp_path / "answers" / ".000000-000000.parquet.ab.tmp"
    half.write_bytes(b"PAR1")
    assert folder.finished() == set()
    assert [folder.note_try("000000-000000") for _ in range(2)] == [1, 2]
    folder.begin()
    assert not half.exists()
    assert folder.note_try("000000-000000") == 1


def test_another_question_is_refused(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.check_question({"archive": "a", "options": {}})
    folder.check_question({"archive": "a", "options": {}})
    with pytest.raises(ScreenError, match="holds the answers of a run with another archive: give"):
        folder.check_question({"archive": "b", "options": {}})


def test_two_processes_do_not_write_into_one_folder(tmp_path: Path) -> None:
    first, second = Folder(str(tmp_path)), Folder(str(tmp_path))
    first.lock()
    with pytest.raises(ScreenError, match="another process is writing into"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_rows_hold_whole_answers_and_errors() -> None:
    told = full_answer()
    rows = [
        {"path": "a", "bytes": 7, "answer": told, "copy": "copies/a.mp4"},
        {"path": "b", "bytes": None, "error": ERROR},
    ]
    table = as_table(rows)
    assert table.schema == SCHEMA
    assert set(Answer.model_fields) < set(table.column_names)
    first, second = table.to_pylist()
    assert read_row(first) == Answer.model_validate(told)
    assert (first["path"], first["bytes"], first["copy"]) == ("a", 7, "copies/a.mp4")
    assert first["suspicion"]["adversarial"] is True
    assert read_row(second) == ErrorAnswer.model_validate(ERROR)


def test_a_summary_counts_labels_alarms_and_errors(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    told = full_answer()
    quiet = {**told, "suspicion": {"score": 0.0, "adversarial": None}, "warnings": ["unlike"]}
    folder.write_answers("a", as_table([{"path": "1", "answer": told, "copy": "c"}]))
    both = [{"path": "2", "answer": quiet}, {"path": "3", "error": ERROR}]
    folder.write_answers("b", as_table(both))
    summary = summarise(folder, planned=4)
    label = told["predictions"][0]["label"]
    assert summary.as_json() == {
        "planned": 4, "answered": 3, "adversarial": 1, "unknown": 1, "warned": 2,
        "labels": {label: 2}, "errors": {"NotAVideoError": 1}, "copies": 1,
    }  # fmt: skip
