"""A worker's rows are what a server answers its operator, and there is one for every file."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.videos import encode, frames
from videopure.bulk.columns import read_row
from videopure.bulk.folder import Folder
from videopure.bulk.reading import read_block
from videopure.bulk.worker import TRIES, Screener, Task
from videopure.format.opening import unpacked
from videopure.format.settings import HandlerSettings
from videopure.handler.policy import OperatorKey
from videopure.handler.torchserve import load_service
from videopure.wire.schemas import Answer

pytestmark = [pytest.mark.integration, pytest.mark.extended]

KEY = "k" * 32
OPTIONS = {"top_k": 2}
VIDEO = encode(frames(6))


def videos() -> dict[str, bytes]:
    request = {"video": b64encode(VIDEO).decode(), "options": {"purify": False}}
    return {
        "a.mp4": VIDEO,
        "b.webm": encode(frames(8, seed=1), "webm", "libvpx-vp9"),
        "cut.mp4": VIDEO[: len(VIDEO) // 2],
        "empty.mp4": b"",
        "request.json": json.dumps(request).encode(),
        "text.mp4": b"text",
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, content in videos().items():
        (folder / name).write_bytes(content)
    with (folder / "large.mp4").open("wb") as file:
        file.truncate((1 << 26) + 10)  # sparse
    return folder


@pytest.fixture(scope="module")
def screener(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("out")
    made = Screener(Task(str(tiny_archive), str(out), OPTIONS, copies="all"))
    yield made
    made.decoder.close()


def block(files: Path, name: str = "000000-000000", *more: str) -> pa.Table:
    paths = [*(str(file) for file in sorted(files.iterdir())), *more]
    sizes = [Path(path).stat().st_size if Path(path).exists() else None for path in paths]
    row = {"block": name, "path": paths, "size": sizes}
    return read_block(pa.Table.from_pylist([row]), most_bytes=1 << 26)


def test_rows_are_the_answers_of_a_server(files: Path, screener: Any, tiny_archive: Path) -> None:
    missing = str(files / "missing.mp4")
    (told,) = screener(block(files, "000000-000000", missing)).to_pylist()
    assert (told["videos"], told["adversarial"], told["errors"]) == (8, 0, 6)
    (file,) = Path(screener.folder.root).glob("answers/*.parquet")
    assert file.name == "000000-000000.parquet"
    rows = {Path(row["path"]).name: row for row in pq.read_table(file).to_pylist()}
    with unpacked(tiny_archive) as root:
        settings = HandlerSettings(purification={"inversion_steps": 2, "suspicion_threshold": 0.5})
        service = load_service(root, settings, screener.service.defended.pipeline.device)
    service.intake.operator_key = OperatorKey(KEY)
    for name, content in videos().items():
        asked = {"video": content, **OPTIONS}
        batch = service.answer([asked], ["x"], headers=[{"x-videopure-operator": KEY}])
        expected, row = batch.replies[0].body, rows[name]
        assert row["bytes"] == len(content)
        got = read_row(row)
        if not isinstance(got, Answer):
            assert {**got.model_dump(), "request_id": "x"} == expected
            continue
        assert got.detail == "full"
        answer = Answer.model_validate(expected)
        assert [p.label for p in got.predictions] == [p.label for p in answer.predictions]
        for ours, theirs in zip(got.predictions, answer.predictions, strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=1e-5)
        assert got.suspicion.score == pytest.approx(answer.suspicion.score, abs=1e-5)
        assert (got.votes.of, got.video) == (answer.votes.of, answer.video)
    errors = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert errors["request.json"]["type"] == "InvalidRequestError"
    assert errors["large.mp4"]["type"] == "TooLargeError"
    assert rows["large.mp4"]["bytes"] == (1 << 26) + 10
    missed = errors["missing.mp4"]
    assert (missed["type"], missed["code"]) == ("UnreadableError", 404)
    assert "FileNotFoundError" in missed["message"]

    # The copies are those of `videopure purify`: every frame, none of them as it was.
    for name in ("a.mp4", "b.webm"):
        with av.open(str(Path(screener.folder.root) / rows[name]["copy"])) as video:
            count = sum(1 for _ in video.decode(video=0))
        assert count == rows[name]["video"]["frames"]
    assert not any(rows[name]["copy"] for name in errors)


def test_what_a_worker_dies_of_again_and_again_gets_errors(files: Path, screener: Any) -> None:
    for _ in range(TRIES):  # as if it had died each time
        screener.folder.note_try("000000-000001")
    (told,) = screener(block(files, "000000-000001")).to_pylist()
    assert told["errors"] == told["videos"] == 7
    table = Folder(screener.folder.root).fs.open(
        f"{screener.folder.root}/answers/000000-000001.parquet"
    )
    with table:
        rows = pq.read_table(table).to_pylist()
    assert {row["error"]["type"] for row in rows} == {"WorkerDiedError"}
    # Its tries are forgotten, for another run that answers it anew.
    assert not list(Path(screener.folder.root).glob("tries/000000-000001.*"))
