"""The `videopure` command line, in process."""

from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.parity import FIXTURE
from tests.support.models import save_recogniser
from tests.support.videos import encode, frames
from videopure.cli.main import app
from videopure.launcher.ports import free_addresses

pytestmark = pytest.mark.integration


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_build_writes_an_archive_from_folders(tmp_path: Path) -> None:
    recogniser = save_recogniser(tmp_path / "recogniser")
    settings = tmp_path / "settings.yaml"
    settings.write_text("max_clips_per_forward: 2\n")
    out = tmp_path / "store" / "mine.mar"
    pipeline = FIXTURE / "model_seed0"
    result = run(
        *("build", "--recogniser", recogniser, "--pipeline", pipeline),
        *("--settings", settings, "--out", out),
    )
    assert result.exit_code == 0, result.output
    assert "Built" in result.output
    assert out.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --demo, or both --recogniser and --pipeline"),
        (["--demo", "--recogniser", "x"], "either --demo, or both"),
        (["--recogniser", "x"], "needed together"),
        (["--recogniser", "nowhere", "--pipeline", "x"], "nowhere is not a folder"),
    ],
)
def test_build_names_what_is_wrong(arguments: list[str], message: str) -> None:
    result = run("build", *arguments)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())


def test_predict_without_a_server_says_so(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(encode(frames()))
    url = free_addresses()["inference_address"]
    result = run("predict", video, "--url", url, "--json")
    assert result.exit_code == 1
    assert f"no server answers at {url}" in " ".join(result.stderr.split())


def test_the_version_is_told() -> None:
    assert run("--version").stdout == f"videopure {version('videopure')}\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("serve", "./config.properties, or the packaged one"),
        ("purify", "as many as the recogniser takes"),
    ],
)
def test_defaults_that_are_no_values_are_told(command: str, words: str) -> None:
    """Brackets in a help text would be taken for rich's markup, and be lost."""
    assert words in " ".join(run(command, "--help").stdout.replace("│", " ").split())


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"never sent")
    result = run("serve", "--config", tmp_path / "nowhere.properties")
    said = " ".join(result.stderr.replace("│", " ").split())
    assert (result.exit_code, "does not exist" in said) == (2, True)
    result = run("predict", video, "--json", "--csv")
    assert (result.exit_code, "not both" in result.stderr) == (2, True)
    result = run("predict", video, "--header", "Authorization Bearer a-secret-that-is-not-shown")
    assert (result.exit_code, "must be 'Name: value'" in result.stderr) == (2, True)
    assert "not-shown" not in result.stderr


@pytest.mark.parametrize("command", ["status", "workers"])
def test_managing_without_a_server_says_so(command: str, tmp_path: Path) -> None:
    url = free_addresses()["management_address"]
    result = run(command, "--management-url", url, "--key-file", tmp_path / "none.json")
    assert result.exit_code == 1
    assert f"no server answers at {url}" in " ".join(result.stderr.split())
