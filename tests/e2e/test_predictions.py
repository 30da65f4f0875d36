"""Requests to a real TorchServe: right answers, clear errors, a worker that stays up."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.authorization import operator
from tests.support.load import wait_for
from tests.support.videos import encode, frames
from videopure.client import RequestFailedError, VideoPureClient
from videopure.launcher.server import TorchServe
from videopure.motions.clips import CLASSES, Stream, write_video

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A clean clip of the test stream as a lossless mp4, and what it shows."""
    pixels, label_id = Stream("test").clip(1)
    path = write_video(pixels, tmp_path_factory.mktemp("clips") / "clip.mp4")
    return path, CLASSES[label_id]


def post(server: TorchServe, data: Any, **kwargs: Any) -> requests.Response:
    """A request as an application without our client sends it."""
    client = server.client()
    key = json.loads(client.key_file.read_text())["inference"]["key"]
    headers = {"Authorization": f"Bearer {key}", **kwargs.pop("headers", {})}
    url = f"{client.inference_url}/predictions/{client.model}"
    return requests.post(url, data=data, headers=headers, timeout=120, **kwargs)


def test_a_clean_clip_is_recognised(client: VideoPureClient, clip: tuple[Path, str]) -> None:
    path, truth = clip
    answer = client.predict(path)
    assert answer.predictions[0].label == truth
    assert answer.undefended is not None
    assert answer.undefended.label == truth
    assert answer.model.recogniser == "motion-resnet3d"
    assert answer.votes is not None
    assert answer.votes.counted <= answer.votes.of
    assert answer.suspicion is not None
    assert answer.suspicion.adversarial in (True, False)
    assert answer.video.frames == 16
    assert answer.video.fps == 8


def test_answers_have_a_content_type_and_a_reason(
    server: TorchServe, clip: tuple[Path, str]
) -> None:
    good = post(server, clip[0].read_bytes(), headers={"Content-Type": "video/mp4"})
    assert (good.status_code, good.reason) == (200, "OK")
    assert good.headers["Content-Type"] == "application/json"
    assert good.json()["request_id"] == good.headers["x-request-id"]
    bad = post(server, b"text", headers={"Content-Type": "video/mp4"})
    assert (bad.status_code, bad.reason) == (415, "Unsupported Media Type")
    assert bad.headers["Content-Type"] == "application/json"


def test_options_come_in_multipart_and_in_json(
    server: TorchServe, client: VideoPureClient, clip: tuple[Path, str]
) -> None:
    path, truth = clip
    answer = client.predict(path, top_k=1, purify=False)
    assert [p.label for p in answer.predictions] == [truth]
    assert answer.votes is None
    body = {"video": base64.b64encode(path.read_bytes()).decode(), "options": {"votes": "full"}}
    headers = {"Content-Type": "application/json", **operator(server)}
    answer = post(server, json.dumps(body), headers=headers).json()
    assert answer["predictions"][0]["label"] == truth
    assert answer["votes"]["counted"] == answer["votes"]["of"]
    with pytest.raises(RequestFailedError, match=r"400 .*unknown option 'stpes'"):
        client.predict(path, **{"stpes": 3})


def test_a_request_without_a_key_is_refused(server: TorchServe, clip: tuple[Path, str]) -> None:
    client = server.client()
    url = f"{client.inference_url}/predictions/{client.model}"
    answer = requests.post(url, data=clip[0].read_bytes(), timeout=60)
    assert answer.status_code == 400
    assert answer.json()["type"] == "InvalidKeyException"


def test_an_expired_key_is_renewed(
    client: VideoPureClient, clip: tuple[Path, str], tmp_path: Path
) -> None:
    """The server's key file is the truth; a client that read an old key asks for a new one."""
    keys = json.loads(client.key_file.read_text())
    keys["inference"]["key"] = "expired"
    client.key_file.chmod(0o600)
    client.key_file.write_text(json.dumps(keys))
    assert client.predict(clip[0]).predictions[0].label == clip[1]


def bad_bodies(good: bytes) -> dict[str, tuple[bytes, int, str]]:
    """Name -> body, status it must get, and words of the message."""
    return {
        "text": (b"this is no video", 415, "not a video of a supported container"),
        "empty": (b"", 422, "0 bytes"),
        "truncated": (good[: len(good) // 2], 422, "damaged or cut short"),
        "1x1": (encode(frames(4, 1, 1), "matroska", "ffv1", "gray"), 422, "1x1 pixels"),
    }


@pytest.mark.parametrize("name", ["text", "empty", "truncated", "1x1"])
def test_each_bad_body_gets_its_own_error(
    client: VideoPureClient, clip: tuple[Path, str], name: str
) -> None:
    body, status, words = bad_bodies(clip[0].read_bytes())[name]
    with pytest.raises(RequestFailedError, match=words) as caught:
        client.predict(body)
    assert caught.value.status == status


def logged(server: TorchServe) -> dict[str, int]:
    """The sizes of the batches that requests were in, by the requests' ids."""
    text = server.log_file.read_text(errors="replace")
    lines = re.findall(r'"request_id": "(\S+)", "status": \d+, "batch_size": (\d+)', text)
    return {request: int(batch) for request, batch in lines}


def test_bad_requests_spoil_neither_their_batch_mates_nor_the_worker(
    server: TorchServe, clip: tuple[Path, str]
) -> None:
    path, truth = clip
    good = path.read_bytes()
    with server.client() as client:
        before = client.workers()
    bodies = [(good, 200), *((body, status) for body, status, _ in bad_bodies(good).values())]
    # The worker is busy with the first requests while the others queue up to whole batches.
    wave = [(good, 200)] * 2 + bodies * 2 + [(good, 200)]
    headers = {"Content-Type": "application/octet-stream"}
    with ThreadPoolExecutor(len(wave)) as pool:
        answers = list(pool.map(lambda sent: post(server, sent[0], headers=headers), wave))
    assert [a.status_code for a in answers] == [status for _, status in wave]
    for answer in answers:
        body = answer.json()
        assert body["request_id"] == answer.headers["x-request-id"]
        if answer.status_code == 200:
            assert body["predictions"][0]["label"] == truth
        else:
            assert body["code"] == answer.status_code
    # At least one good request really shared a batch with bad ones.
    ids = {answer.json()["request_id"] for answer in answers}
    wait_for(lambda: ids <= set(logged(server)), "lines of all requests")
    size = logged(server)
    shared = [a for a in answers if a.status_code == 200 and size[a.json()["request_id"]] > 1]
    assert shared
    with server.client() as client:
        after = client.workers()
    assert [w.pid for w in after] == [w.pid for w in before]
    assert all(w.ready for w in after)


def test_neither_keys_nor_bodies_are_logged(server: TorchServe, client: VideoPureClient) -> None:
    with pytest.raises(RequestFailedError) as refused:
        client.predict(b"a-body-that-must-not-be-logged")
    wait_for(lambda: refused.value.request_id in logged(server), "line of the request")
    keys = (
        json.loads(client.key_file.read_text())["inference"]["key"],
        client.operator_key_file.read_text().strip(),
    )
    for log in server.log_file.parent.glob("*.log"):
        text = log.read_text(errors="replace")
        assert "a-body-that-must-not-be-logged" not in text
        assert not any(key in text for key in keys)
