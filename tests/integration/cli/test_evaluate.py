"""`videopure evaluate` as it is run: on an archive and labelled videos, in one process or two."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.models import LABELS
from tests.support.videos import encode, frames

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COMMAND = Path(sys.executable).with_name("videopure")
# torch's launcher: accelerate's starts several processes on GPUs alone.
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    rows = ["path,label"]
    for k in range(4):
        (tmp_path / f"{k}.mp4").write_bytes(encode(frames(6, seed=k)))
        rows.append(f"{k}.mp4,{LABELS[k % 2]}")
    file = tmp_path / "videos.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def start(archive: Path, data: Path, out: Path, *launcher: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(*launcher, COMMAND, "evaluate", "--archive", archive, "--data", data, "--out", out),
            *("--suite", "full", "--threads", "1", "--clips", "4"),
            *("--defence", "none", "--defence", "VideoPure"),
            *("--threat", "clean", "--threat", "PGD-10", "--threat", "exact-20 4/255"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def evaluate(archive: Path, data: Path, out: Path, *launcher: str) -> str:
    process = start(archive, data, out, *launcher)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return printed


def stop_after_a_unit(process: subprocess.Popen[str], out: Path, signal_number: int) -> str:
    """Send a signal as soon as something is finished; what was said on the way out."""
    while not (out / "units-0.jsonl").is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal_number)
    return process.communicate()[1]


def answers(out: Path) -> list[dict[str, str]]:
    """Every answer, but for the seconds it took."""
    with (out / "clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"], row["attack_seconds"]
    return sorted(rows, key=lambda row: (row["threat"], row["defence"], row["clip"]))


def test_two_processes_give_the_numbers_of_one(
    tiny_archive: Path, videos: Path, tmp_path: Path
) -> None:
    printed = evaluate(tiny_archive, videos, tmp_path / "one")
    evaluate(tiny_archive, videos, tmp_path / "two", *TWO)
    units = [(tmp_path / "two" / f"units-{k}.jsonl").read_text() for k in (0, 1)]
    assert all(units), "both processes must have worked"
    one = answers(tmp_path / "one")
    assert len(one) == 4 * (2 * 6 + 1)  # clean, PGD-10 at five budgets, and the exact attack
    assert answers(tmp_path / "two") == one
    tables = (tmp_path / "one" / "tables.md").read_text()
    for heading in ("| defence ", "| against VideoPure ", "| suspicion of ", "| check "):
        assert heading in tables
        assert heading not in printed
    assert "Against an attacker who has the archive, at 4/255: " in printed
    assert "Clips recognised, in percent" in printed
    assert "Peak memory" in printed
    report = (tmp_path / "one" / "report.html").read_text()
    assert "<h2>Frames</h2>" in report
    assert "exact-20 4/255" in report
    assert "Seconds for one clip alone" in printed
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert summary["thresholds"] == {"the archive's threshold": 0.5}
    assert summary["missing"] == {}

    stopped = tmp_path / "stopped"
    process = start(tiny_archive, videos, stopped)
    said = stop_after_a_unit(process, stopped, signal.SIGINT)
    assert process.returncode == 130
    assert "run the same command to resume" in " ".join(said.split())
    before = (stopped / "units-0.jsonl").read_bytes()
    process = start(tiny_archive, videos, stopped)
    stop_after_a_unit(process, stopped, signal.SIGKILL)
    evaluate(tiny_archive, videos, stopped)
    assert (stopped / "units-0.jsonl").read_bytes().startswith(before)
    assert answers(stopped) == one


def test_precision_is_part_of_the_question(
    tiny_archive: Path, videos: Path, tmp_path: Path
) -> None:
    only = ("--suite", "speed", "--threads", "1", "--clips", "2", "--threat", "clean")

    def run(out: str, dtype: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(COMMAND, "evaluate", "--archive", tiny_archive, "--data", videos, *only),
                *("--out", tmp_path / out, "--dtype", dtype),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )

    assert run("half", "bfloat16").returncode == 0
    assert json.loads((tmp_path / "half" / "question.json").read_text())["dtype"] == "bfloat16"
    again = run("half", "float32")
    assert again.returncode == 1
    assert "other dtype" in again.stderr
    wrong = run("other", "float64")
    assert wrong.returncode == 1
    assert "dtype must be one of float32, float16, bfloat16, got 'float64'" in wrong.stderr


def test_a_gate_ends_with_1_and_says_what_fell_short(
    tiny_archive: Path, videos: Path, tmp_path: Path
) -> None:
    def run(*asked: str) -> tuple[int, str]:
        done = subprocess.run(
            [
                *(COMMAND, "evaluate", "--archive", tiny_archive, "--data", videos, "--suite"),
                *("speed", "--threads", "1", "--clips", "2", "--threat", "clean"),
                *("--defence", "none", "--defence", "VideoPure", "--out", tmp_path / "out"),
                *(word for text in asked for word in ("--fail-under", text)),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )
        return done.returncode, " ".join(done.stderr.split())

    code, said = run("clean=0", "worst case 4/255=0.5")
    assert code == 2
    assert "no 'worst case 4/255' of VideoPure; it has clean" in said
    assert not (tmp_path / "out").exists()
    code, said = run("clean=0")
    assert code == 0
    assert "Fell short" not in said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    right = summary["accuracy"]["none"]["clean"]["right"]
    assert right < 2
    code, said = run("clean=0", "none: clean=1")
    assert code == 1
    assert f"Fell short: clean of none: {right / 2:g} is less than 1 ({right} of 2" in said
