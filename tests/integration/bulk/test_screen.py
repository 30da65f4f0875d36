"""`videopure screen` as it is run, with a real Ray: whatever is killed, each video gets one row."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.screening import Rows, differences, killed_run, make_videos, read_rows
from videopure.bulk.worker import load
from videopure.wire.schemas import Answer, ErrorAnswer

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COMMAND = Path(sys.executable).with_name("videopure")


def answers(archive: Path, videos: Path) -> Rows:
    """What a service of the archive answers its operator."""
    service, key, _ = load(archive, torch.device("cpu"))
    found: Rows = {}
    for file in sorted(videos.iterdir()):
        row = {"video": file.read_bytes()}
        batch = service.answer([row], ["id"], headers=[{"x-videopure-operator": key}])
        body = batch.replies[0].body
        kind = ErrorAnswer if "code" in body else Answer
        found[file.name] = kind.model_validate(body)
    return found


def screen(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "screen", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def test_nothing_is_lost_or_doubled_by_kills(tiny_archive: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    make_videos(videos, 60)
    count = len(list(videos.iterdir()))
    told = killed_run(videos, tiny_archive, out, count, workers=2)
    kept = told["answered_when_the_driver_was_killed"]
    assert count // 3 <= kept < count
    assert told["answered_by_the_second_run"] == count - kept
    rows = read_rows(out)  # raises an error for what is there twice
    assert rows.keys() == {file.name for file in videos.iterdir()}
    assert differences(rows, answers(tiny_archive, videos)) == []
    files = {file: file.stat().st_mtime_ns for file in out.glob("answers/*.parquet")}

    # There is nothing to do; then one video more.
    again = screen(videos, "--archive", tiny_archive, "--out", out, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["this_run"]["videos"] == 0
    (videos / "zz.mp4").write_bytes(b"text")
    more = screen(videos, "--archive", tiny_archive, "--out", out)
    assert more.returncode == 0, more.stderr
    assert f"{count + 1} of {count + 1} videos have a row" in more.stdout
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert isinstance(read_rows(out)["zz.mp4"], ErrorAnswer)

    other = screen(videos, "--archive", tiny_archive, "--out", out, "--clips", "2")
    assert other.returncode == 1
    assert "holds the answers of a run with another options" in other.stderr
