"""The images and the composition of deploy/docker, without a container engine."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.requirements import Requirement

from constraints.serving import SERVING, requirements
from tests.support.dockerfile import arguments, instructions
from videopure.cli.main import app

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "deploy" / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

pytestmark = pytest.mark.unit


def check_command(words: list[str]) -> None:
    """Raise an error for a command of ours that does not exist or takes other options."""
    assert words[0] == "videopure"
    command = typer.main.get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    context = command.context_class(command, info_name=words[1])
    assert command.make_parser(context).parse_args(words[2:])[1] == []


# Beside the interpreter, where the extra dev puts it, or on the path.
_PLACES = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
HADOLINT = shutil.which("hadolint", path=_PLACES) or ""


@pytest.mark.skipif(not HADOLINT, reason="there is no hadolint")
def test_hadolint_has_nothing_to_say(tmp_path: Path) -> None:
    def lint(file: Path) -> str:
        run = subprocess.run([HADOLINT, str(file)], capture_output=True, text=True, check=False)
        return run.stdout

    assert lint(DOCKERFILE) == ""
    latest = tmp_path / "Dockerfile"
    latest.write_text("FROM python:latest\n")
    assert "DL3007" in lint(latest)


def test_images_are_pinned_and_not_roots() -> None:
    steps = instructions(DOCKERFILE)
    (base,) = (rest for name, rest in steps if name == "ARG" and rest.startswith("PYTHON="))
    assert re.fullmatch(r"PYTHON=3\.11\.\d+-slim-\w+", base)
    stages = "\n".join(f"{name} {rest}" for name, rest in steps).split("FROM ")[1:]
    users = {stage.split()[2]: re.findall(r"^USER (\S+)", stage, re.M) for stage in stages}
    assert users == {
        "build": [], "runtime": ["10001:10001"], "cpu": [], "cuda": ["0", "10001:10001"],
    }  # fmt: skip


def test_commands_of_the_images_exist() -> None:
    check_command(arguments(DOCKERFILE, "ENTRYPOINT"))
    check_command([*arguments(DOCKERFILE, "ENTRYPOINT"), "--bind", "0.0.0.0"])
    check_command(arguments(DOCKERFILE, "HEALTHCHECK"))
    check_command(SERVICES["key"]["entrypoint"])


def test_what_is_installed_has_exact_versions() -> None:
    """Those of constraints/serving.txt, which fit pyproject.toml."""
    pinned = {}
    for line in SERVING.read_text(encoding="utf-8").splitlines()[1:]:
        name, version = line.split("==")
        pinned[name] = version
    wanted = list(requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    assert len(wanted) > 15
    for requirement in map(Requirement, wanted):
        version = pinned[requirement.name.lower()]
        assert requirement.specifier.contains(version), "run: python -m constraints.serving"


def test_every_room_goes_into_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {
        Path(folder).parts[0] for folder in project["tool"]["setuptools"]["package-dir"].values()
    }
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert folders <= {line[1:] for line in ignored if line.startswith("!")}


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_hardened_and_pinned(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    image, _, tag = service["image"].partition(":")
    assert tag == "cpu" if image == "videopure" else re.search(r"\d+\.\d+\.\d+", tag)


def test_predictions_leave_the_network_namespace_through_the_proxy_alone() -> None:
    published = {name: one.get("ports", []) for name, one in SERVICES.items() if "ports" in one}
    assert published == {"videopure": ["443:8443", "127.0.0.1:3000:3000"]}
    shared = {name for name, one in SERVICES.items() if "network_mode" in one}
    assert shared == SERVICES.keys() - {"videopure"}
    proxy = (ROOT / "deploy" / "proxy" / "videopure.conf").read_text(encoding="utf-8")
    assert re.findall(r"listen (\S+)", proxy) == ["8443"]


def test_files_that_are_mounted_exist() -> None:
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service["volumes"]
        if volume.startswith(".")
    ]
    for place in mounted:
        # Those are the operator's own.
        if place not in ("./secrets", "../../model_store"):
            assert (DOCKER / place).exists(), place
    assert len(mounted) >= 8
    gpu = yaml.safe_load((DOCKER / "compose.cuda.yaml").read_text(encoding="utf-8"))
    assert gpu["services"].keys() <= SERVICES.keys()
