"""Many videos through `videopure screen`, with processes killed, compared with a real server.

    python -m benchmarks.screening --archive model_store/videopure.mar

The videos have thirty combinations of codec and container; one in twenty is damaged. One run is not
disturbed, to measure how busy its workers are and how much memory its driver takes. In another, the
driver is killed, and then a worker of the run that resumes it. A server answers the same videos.
docs/scale.md has the results.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import pyarrow.parquet as pq
import typer

from benchmarks.measure import machine
from tests.support.damage import damaged_files, whole_files
from tests.support.videos import encode, frames
from videopure.bulk.columns import read_row
from videopure.client import RequestFailedError, VideoPureClient
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.wire.schemas import Answer, ErrorAnswer

__all__ = ["Run", "ask_server", "differences", "killed_run", "make_videos", "read_rows"]

_CODECS = (
    *(("mp4", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("matroska", "libx264")),
    *(("mov", "mpeg4"), ("mpegts", "mpeg2video")),
)
_DAMAGED = 20  # one in this many
_POLL = 0.2  # seconds
_TOLERANCE = 1e-3  # of scores, which round differently in other batches

Rows = dict[str, Answer | ErrorAnswer]


def make_videos(folder: Path, count: int) -> None:
    """Write this many different videos; one in twenty is damaged."""
    folder.mkdir(parents=True)
    for name, content in damaged_files(count // _DAMAGED):
        (folder / f"damaged-{name}").write_bytes(content)
    whole = list(whole_files().items())[: count // 2]
    for name, content in whole:
        (folder / f"whole-{name}").write_bytes(content)
    for number in range(count - count // _DAMAGED - len(whole)):
        container, codec = _CODECS[number % len(_CODECS)]
        pixels = frames(6 + number % 20, 32 + 8 * (number % 5), 48, seed=number)
        fps = 25 if container == "mpegts" else 8
        content = encode(pixels, container, codec, fps=fps)
        (folder / f"{number:05}-{codec}.{container}").write_bytes(content)


@dataclass
class Run:
    """A running `videopure screen`.

    Args:
        command: the whole command line.
        out: folder of the answers.
        memory: bytes of the driver, by the number of videos answered so far.
    """

    command: list[str]
    out: Path
    memory: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    @classmethod
    def start(cls, videos: Path, archive: Path, out: Path, workers: int, *more: str) -> Run:
        """Start a run, or resume one."""
        program = str(Path(sys.executable).with_name("videopure"))
        asked = [str(videos), "--archive", str(archive), "--out", str(out)]
        return cls([program, "screen", *asked, "--workers", str(workers), "--json", *more], out)

    def answered(self) -> int:
        """Number of videos whose answers are written."""
        files = self.out.glob("answers/*.parquet")
        return sum(pq.read_metadata(file).num_rows for file in files)

    def wait_until(self, count: int) -> None:
        """Wait until this many videos are answered, or the process ends."""
        driver = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            done = self.answered()
            if done not in self.memory:
                self.memory[done] = driver.memory_info().rss
            if done >= count:
                return
            time.sleep(_POLL)

    def kill_driver(self) -> float:
        """Kill the driver only; returns the seconds until all processes it started have ended."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.communicate()
        begun = time.monotonic()
        _, alive = psutil.wait_procs(started, timeout=300)
        if alive:
            raise RuntimeError(f"still there after the driver was killed: {alive}")
        return time.monotonic() - begun

    def kill_worker(self) -> None:
        """Kill a process that holds the models; its decoder has to end by itself."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            if "MapWorker(MapBatches(Screener))" in " ".join(process.cmdline()):
                process.send_signal(signal.SIGKILL)
                return
        raise RuntimeError("there is no worker to kill")

    def finish(self) -> dict[str, Any]:
        """Wait for the end; returns what the command prints."""
        self.wait_until(sys.maxsize)
        printed, errors = self.process.communicate()
        if self.process.returncode:
            raise RuntimeError(errors[-2000:])
        told: dict[str, Any] = json.loads(printed)
        return told


def killed_run(videos: Path, archive: Path, out: Path, count: int, workers: int) -> dict[str, Any]:
    """Kill the driver after a third, and a worker after two thirds; then let it finish."""
    first = Run.start(videos, archive, out, workers)
    first.wait_until(count // 3)
    ended = first.kill_driver()
    kept = first.answered()
    second = Run.start(videos, archive, out, workers)
    second.wait_until(2 * count // 3)
    second.kill_worker()
    told = second.finish()
    return {
        "answered_when_the_driver_was_killed": kept,
        "seconds_until_its_processes_had_ended": ended,
        "answered_by_the_second_run": told["this_run"]["videos"],
    }


def read_rows(out: Path) -> Rows:
    """The answers in a folder, by name of the video.

    Raises:
        ValueError: if a video has two rows.
    """
    found: Rows = {}
    for file in sorted(out.glob("answers/*.parquet")):
        for row in pq.read_table(file).to_pylist():
            name = Path(row["path"]).name
            if name in found:
                raise ValueError(f"{name} has two rows")
            found[name] = read_row(row)
    return found


def ask_server(client: VideoPureClient, videos: Path) -> Rows:
    """A server's answers to its operator, for each video."""
    found: Rows = {}
    for file in sorted(videos.iterdir()):
        try:
            found[file.name] = client.predict(file)
        except RequestFailedError as error:
            body = {"code": error.status, "type": error.type, "message": "", "request_id": ""}
            found[file.name] = ErrorAnswer.model_validate(body)
    return found


def differences(ours: Rows, theirs: Rows) -> list[str]:
    """The videos whose rows differ by more than rounding of the scores."""
    return sorted(
        {*ours} ^ {*theirs}
        | {name for name in {*ours} & {*theirs} if not _same(ours[name], theirs[name])}
    )


def _same(one: Answer | ErrorAnswer, other: Answer | ErrorAnswer) -> bool:
    if isinstance(one, ErrorAnswer) and isinstance(other, ErrorAnswer):
        return (one.code, one.type) == (other.code, other.type)
    if not isinstance(one, Answer) or not isinstance(other, Answer):
        return False
    scores = zip(_scores(one), _scores(other), strict=True)
    return _plain(one) == _plain(other) and all(abs(a - b) < _TOLERANCE for a, b in scores)


def _plain(answer: Answer) -> tuple[Any, ...]:
    """What must be identical."""
    alarm = answer.suspicion and answer.suspicion.adversarial
    labels = [prediction.label for prediction in answer.predictions]
    return labels, alarm, answer.video, answer.warnings


def _scores(answer: Answer) -> list[float]:
    """What may differ by rounding."""
    scores = [prediction.score for prediction in answer.predictions]
    return [score or 0.0 for score in (*scores, answer.suspicion and answer.suspicion.score)]


def main(
    archive: Annotated[Path, typer.Option(help="Archive to serve and to screen with.")],
    videos: Annotated[int, typer.Option(min=20)] = 500,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    result: Annotated[Path, typer.Option()] = Path("build/screening.json"),
) -> None:
    """Measure, and write the result."""
    scratch = Path(tempfile.mkdtemp(prefix="screening-"))
    try:
        found = measure(scratch, archive.resolve(), videos, workers)
    finally:
        shutil.rmtree(scratch)
    result.write_text(json.dumps({"machine": machine(), **found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def measure(scratch: Path, archive: Path, count: int, workers: int) -> dict[str, Any]:
    """Run all measurements."""
    folder = scratch / "videos"
    make_videos(folder, count)
    begun = time.monotonic()
    run = Run.start(folder, archive, scratch / "alone", workers)
    told = run.finish()
    whole = time.monotonic() - begun
    spent = told["this_run"]
    alone = read_rows(scratch / "alone")
    print(f"alone: {spent}, {whole:.0f} s with the start", flush=True)
    killed = killed_run(folder, archive, scratch / "killed", count, workers)
    print(f"killed: {killed}", flush=True)
    after = read_rows(scratch / "killed")
    with TorchServe(archive, folder=scratch, overrides=free_addresses()) as server:
        served = ask_server(server.client(), folder)
    return {
        "videos": count,
        "workers": workers,
        "rows": len(alone),
        "errors": sum(isinstance(row, ErrorAnswer) for row in alone.values()),
        "differs_from_server": differences(alone, served),
        "seconds": spent["seconds"],
        "seconds_with_start": whole,
        "videos_per_second": spent["videos"] / spent["seconds"],
        "share_of_workers_own_rate": spent["busy_seconds"] / (spent["seconds"] * workers),
        "driver_megabytes": {done: round(size / 1e6) for done, size in sorted(run.memory.items())},
        "killed": {
            **killed,
            "rows": len(after),
            "differs_from_server": differences(after, served),
            "differs_from_the_run_left_alone": differences(after, alone),
        },
    }


if __name__ == "__main__":
    typer.run(main)
