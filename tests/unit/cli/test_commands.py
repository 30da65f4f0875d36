"""What holds for all commands: they are quick to ask for help, and options mean what is built."""

import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from videopure.archive import BuildSpec
from videopure.cli.build import build
from videopure.cli.main import app
from videopure.cli.terminal import own_command

pytestmark = pytest.mark.unit

# What `videopure build` turns into fields of a spec that are called otherwise.
ELSEWHERE = {"demo", "demo_models", "settings", "model_config", "as_json"}


def test_every_option_of_build_is_a_field_of_the_spec_with_its_default() -> None:
    options = inspect.signature(build).parameters
    wanted = {field.name: field.default for field in dataclasses.fields(BuildSpec)}
    assert options.keys() - ELSEWHERE == wanted.keys() - {"name", "config"}
    optional = {name: default for name, default in wanted.items() if name in options}
    needed = {"recogniser", "pipeline", "out"}
    assert {name: options[name].default for name in optional} == optional | dict.fromkeys(needed)


def test_help_of_every_command_comes_without_torch() -> None:
    commands = [command.callback for command in app.registered_commands]
    names = [command.__name__ for command in commands if command is not None]
    assert {"build", "evaluate", "predict", "purify", "serve"} <= set(names)
    program = f"""
import sys

for heavy in ("av", "cv2", "diffusers", "matplotlib", "numpy", "torch", "transformers"):
    sys.modules[heavy] = None  # importing it fails
from videopure.cli.main import app
from videopure.cli.terminal import own_command

for command in {names!r}:
    app([command, "--help"], standalone_mode=False)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("Usage:") == len(names)


@pytest.mark.parametrize("chosen", [["--bare"], ["--train", "recogniser"]])
def test_harden_refuses_a_fidelity_without_a_purifier_to_train(chosen: list[str]) -> None:
    result = CliRunner().invoke(app, ["harden", "--fidelity", "1", *chosen])
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert f"{' '.join(chosen)} trains no purifier" in said


def test_the_command_to_type_is_the_one_that_works_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "videopure").write_text("#!/bin/sh")
    (programs / "videopure").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    assert own_command() == ".venv/bin/videopure"
    monkeypatch.chdir("/")
    assert own_command().endswith(os.path.join(".venv", "bin", "videopure"))
    monkeypatch.setenv("PATH", str(programs))  # an activated environment
    assert own_command() == "videopure"
