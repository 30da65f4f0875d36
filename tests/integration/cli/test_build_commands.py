"""`videopure build`, `inspect` and `verify`, in process."""

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from typer.testing import CliRunner, Result

from tests.parity import FIXTURE
from tests.support.models import save_recogniser
from videopure.cli.main import app
from videopure.format.opening import inspect_archive

pytestmark = pytest.mark.integration

PIPELINE = FIXTURE / "model_seed0"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def recogniser(tmp_path: Path) -> Path:
    return save_recogniser(tmp_path / "models" / "recogniser")


def test_a_licence_that_restricts_use_must_be_accepted(recogniser: Path, tmp_path: Path) -> None:
    (recogniser / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    out = tmp_path / "videopure.mar"
    arguments = ("build", "--recogniser", recogniser, "--pipeline", PIPELINE, "--out", out)
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "comes under cc-by-nc-4.0, which restricts its use: read it, and give" in said(refused)
    assert not out.exists()
    accepted = run(*arguments, "--accept-licence")
    assert accepted.exit_code == 0, accepted.output
    assert "Licence of the recogniser: cc-by-nc-4.0" in accepted.output
    assert "Licence of the pipeline: none found" in said(accepted)
    manifest = inspect_archive(out).manifest
    assert manifest.recogniser.licence == "cc-by-nc-4.0"
    assert manifest.accepted_licences == ["recogniser: cc-by-nc-4.0"]
    shown = run("inspect", out)
    assert "licence accepted when it was built: recogniser: cc-by-nc-4.0" in shown.output


def test_a_whole_model_config_is_taken_and_stays_explained(
    recogniser: Path, tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("batchSize: 2\nvideopure: {purification: {inversion_steps: 0}}\n")
    out = tmp_path / "videopure.mar"
    arguments = ("build", "--recogniser", recogniser, "--pipeline", PIPELINE, "--out", out)
    result = run(*arguments, "--model-config", config)
    assert result.exit_code == 0, result.output
    text = ZipFile(out).read("model-config.yaml").decode()
    assert yaml.safe_load(text)["batchSize"] == 2
    assert "  # limits:" in text
    assert inspect_archive(out).chosen["videopure"] == {"purification": {"inversion_steps": 0}}
    config.write_text("batchSise: 2\n")
    result = run(*arguments, "--model-config", config)
    assert result.exit_code == 1
    assert "batchSise: Extra inputs are not permitted (did you mean 'batchSize'?)" in said(result)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "must hold keys and values, got [1]"),
        ("warm_up: true\nwarm_up: false", "key 'warm_up' appears twice"),
        (
            "warmup: true",
            "videopure.warmup: Extra inputs are not permitted (did you mean",
        ),
    ],
)
def test_wrong_settings_are_named_before_anything_is_built(
    recogniser: Path, tmp_path: Path, text: str, words: str
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(text)
    arguments = ("build", "--recogniser", recogniser, "--pipeline", PIPELINE)
    result = run(*arguments, "--out", tmp_path / "out" / "a.mar", "--settings", settings)
    assert result.exit_code == 1
    assert words in said(result)
    assert not (tmp_path / "out").exists()


def test_inspect_and_verify_print_what_is_in_an_archive(tiny_archive: Path, tmp_path: Path) -> None:
    shown = run("inspect", tiny_archive, "--files").output
    assert "recogniser: tiny (NetworkRecogniser)" in shown
    assert "unet/config.json: UNet3DConditionModel" in shown
    assert "suspicion_threshold: 0.5" in shown
    manifest = json.loads(run("inspect", tiny_archive, "--json").output)
    record = manifest["files"]["recogniser/model.safetensors"]
    assert f"{record['sha256']}  recogniser/model.safetensors" in shown
    assert run("verify", tiny_archive).exit_code == 0
    ZipFile(tiny_archive).extractall(tmp_path)
    (tmp_path / "recogniser" / "config.json").unlink()
    refused = run("verify", tmp_path)
    assert refused.exit_code == 1
    assert "recogniser/config.json is missing from the archive" in said(refused)
