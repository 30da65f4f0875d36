"""`videopure screen` says what is wrong before it starts Ray."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from videopure.bulk.screening import Progress
from videopure.cli.main import app

pytestmark = pytest.mark.unit


def test_without_ray_the_extra_is_named() -> None:
    program = """
import sys

sys.modules["ray"] = None  # importing it fails
sys.argv = ["videopure", "screen", "folder", "--out", "out"]
from videopure.cli.main import main

main()
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1
    assert "this command needs ray" in run.stderr
    assert "'.[ray]'" in run.stderr


def test_an_archive_that_is_none_is_said(tmp_path: Path) -> None:
    missing = str(tmp_path / "no.mar")
    run = CliRunner().invoke(app, ["screen", "x", "--archive", missing, "--out", str(tmp_path)])
    assert run.exit_code == 1
    assert "no.mar" in run.stderr
    assert not (tmp_path / "run.json").exists()


def test_the_time_left_is_that_of_the_videos_left() -> None:
    assert Progress(done=3, total=9).left is None
    # Of ten videos four were answered before, two by this run in eight seconds.
    assert Progress(done=6, total=10, own=2, seconds=8.0).left == 16
