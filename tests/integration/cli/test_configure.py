"""`videopure configure`, `sign` and `verify --require-signature` as an operator types them."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.keys import write_keys
from videopure.cli.main import app

pytestmark = pytest.mark.integration


@pytest.fixture
def archive(tiny_archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_archive, tmp_path / "a.mar"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_settings_are_changed_recorded_and_shown(archive: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("videopure: {max_clips: 3}\n")
    done = run("configure", archive, "--settings", settings, "--set", "batchSize=8", "--json")
    assert done.exit_code == 0, done.output
    changed = {"batchSize": [4, 8], "videopure.max_clips": [None, 3]}
    assert json.loads(done.stdout)["changed"] == changed
    verified = run("verify", archive)
    assert "is intact" in verified.output
    assert "the operator set batchSize to 8 (built with: 4)" in verified.output
    assert "batchSize: 8" in run("inspect", archive).output


@pytest.mark.parametrize(
    ("argument", "message", "code"),
    [
        ("batchSize", "--set must be key=value", 2),
        ("batchSize=eight", "batchSize: ", 1),
        ("videopure.speeed=fast", "videopure.speeed: ", 1),
        ("batchSize.x=1", "batchSize", 1),
        ("a=[", "not YAML", 1),
    ],
)
def test_what_cannot_be_set_is_named_and_changes_nothing(
    archive: Path, argument: str, message: str, code: int
) -> None:
    before = archive.read_bytes()
    done = run("configure", archive, "--set", argument)
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert archive.read_bytes() == before


def test_a_required_signature_is_asked_for(archive: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    unsigned = run("verify", archive, "--require-signature", public)
    assert unsigned.exit_code == 1
    assert "is not signed" in unsigned.stderr
    assert run("serve", "--archive", archive, "--require-signature", public).exit_code == 1
    assert run("sign", archive, "--key", private).exit_code == 0
    signed = run("verify", archive, "--require-signature", public, "--json")
    assert json.loads(signed.stdout)["signed"] is True
    assert run("sign", archive, "--key", public).exit_code == 1
