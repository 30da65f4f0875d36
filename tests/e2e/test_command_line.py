"""The client and the commands against a real TorchServe."""

import csv
import io
import json
import shutil
from pathlib import Path

import av
import pytest
import requests
from typer.testing import CliRunner, Result

from videopure.cli.main import app
from videopure.client import QueueFullError, RequestFailedError, VideoPureClient
from videopure.demo import SAMPLES
from videopure.launcher.server import TorchServe

pytestmark = pytest.mark.e2e


def run(server: TorchServe, command: str, *arguments: object) -> Result:
    client = server.client()
    if command == "predict":
        arguments = (*arguments, "--url", client.inference_url)
    else:
        arguments = (*arguments, "--management-url", client.management_url)
    line = [command, *map(str, arguments), "--key-file", str(client.key_file)]
    return CliRunner().invoke(app, line)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good videos, one of them deeper, and something that is none."""
    (tmp_path / "deep").mkdir()
    shutil.copyfile(SAMPLES / "grows-clean.mp4", tmp_path / "clip.mp4")
    shutil.copyfile(SAMPLES / "grows-attacked.mp4", tmp_path / "deep" / "clip.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "notes.txt").write_text("not sent")
    return tmp_path


def test_a_folder_is_answered_in_csv(server: TorchServe, folder: Path) -> None:
    result = run(server, "predict", folder, "--csv")
    assert result.exit_code == 1  # one of them is no video
    rows = {Path(row["file"]): row for row in csv.DictReader(io.StringIO(result.stdout))}
    assert set(rows) == {folder / n for n in ("clip.mp4", "deep/clip.mp4", "broken.mp4")}
    assert "NotAVideoError" in rows[folder / "broken.mp4"]["error"]
    clean, attacked = rows[folder / "clip.mp4"], rows[folder / "deep/clip.mp4"]
    assert clean["label"] == attacked["label"] == "grows"
    assert attacked["undefended_label"] != "grows"
    assert (clean["adversarial"], attacked["adversarial"]) == ("False", "True")


def test_globs_options_and_saved_evidence(server: TorchServe, folder: Path) -> None:
    out = folder / "out"
    pattern = folder / "**" / "clip.mp4"
    result = run(server, "predict", pattern, "--json", "--top-k", 2, "--save-purified", out)
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [len(answer["predictions"]) for answer in answers] == [2, 2]
    assert sorted(p.name for p in out.iterdir()) == ["clip-2-purified.mp4", "clip-purified.mp4"]
    with av.open(out / "clip-2-purified.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 16


def test_a_bad_option_is_named_and_nothing_is_a_traceback(server: TorchServe, folder: Path) -> None:
    result = run(server, "predict", folder / "clip.mp4", "--method", "magic")
    assert result.exit_code == 1
    assert "option 'method'" in result.stderr
    result = run(server, "predict", folder / "nowhere.mp4")
    assert result.exit_code == 2
    assert "no video at" in result.stderr


def test_status_and_workers_are_told(server: TorchServe) -> None:
    status = run(server, "status", "--json")
    assert status.exit_code == 0
    assert json.loads(status.stdout)["ready"] is True
    workers = run(server, "workers")
    assert workers.exit_code == 0
    assert "READY" in workers.stdout
    other = run(server, "status", "--model", "other")
    assert other.exit_code == 1
    assert "has no model 'other': give its name with --model" in other.stderr
    other = run(server, "predict", SAMPLES, "--model", "other")
    assert other.exit_code == 1
    assert other.stderr.count("no model 'other'") == 1  # not once for each video


def test_the_client_knows_the_model_and_what_it_has_done(client: VideoPureClient) -> None:
    told = client.describe()
    assert "grows" in told["recogniser"]["labels"]
    assert told["options"]["clips"]["maximum"] == 10
    answers = list(client.predict_many([SAMPLES / "grows-clean.mp4", b"text"], purify=False))
    assert getattr(answers[0], "votes", 1) is None
    assert isinstance(answers[1], RequestFailedError)
    assert answers[1].request_id
    counted = [s for s in client.metrics() if s.name == "VideoPureRequests"]
    assert counted
    assert all(sample.labels["ModelName"] == "videopure" for sample in counted)


@pytest.mark.slow
def test_scaling_waits_for_workers_and_none_means_no_answer(
    server: TorchServe, client: VideoPureClient
) -> None:
    assert run(server, "workers", 2).exit_code == 0
    assert len({worker.pid for worker in client.workers()}) == 2
    assert client.ready()
    assert run(server, "workers", 0).exit_code == 0
    assert not client.ready()
    assert run(server, "status").exit_code == 1
    key = json.loads(client.key_file.read_text())["inference"]["key"]
    ping = requests.get(
        f"{client.inference_url}/ping", headers={"Authorization": f"Bearer {key}"}, timeout=60
    )
    assert ping.json() == {"status": "Healthy"}  # which is why it is no readiness probe
    with pytest.raises(QueueFullError):
        client.predict(SAMPLES / "grows-clean.mp4")
    client.scale(1)
    assert client.predict(SAMPLES / "grows-clean.mp4").predictions[0].label == "grows"
