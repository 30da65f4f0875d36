"""Clients who want more than they are let have, against a real TorchServe."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from tests.support.authorization import client_key, operator
from videopure.client import VideoPureClient
from videopure.demo import SAMPLES
from videopure.launcher.server import TorchServe

pytestmark = pytest.mark.e2e

VIDEO = (SAMPLES / "grows-attacked.mp4").read_bytes()
BASE64 = base64.b64encode(VIDEO).decode()
MP4 = {"Content-Type": "video/mp4"}


def post(server: TorchServe, path: str = "/predictions/videopure", **kwargs: Any) -> Any:
    headers = {**client_key(server), **kwargs.pop("headers", {})}
    url = server.client().inference_url + path
    return requests.post(url, headers=headers, timeout=120, **kwargs)


@contextmanager
def same_worker(client: VideoPureClient) -> Iterator[None]:
    """No worker dies meanwhile."""
    before = [worker.pid for worker in client.workers()]
    yield
    assert [worker.pid for worker in client.workers()] == before
    assert client.ready()


def test_clients_are_told_less_than_the_operator(server: TorchServe) -> None:
    told = post(server, data=VIDEO, headers=MP4).json()
    full = post(server, data=VIDEO, headers={**MP4, **operator(server)}).json()
    assert (told["detail"], full["detail"]) == ("scores", "full")
    assert told["votes"] is None
    assert told["undefended"] is None
    assert full["votes"]["counted"] >= 2
    assert told["predictions"][0]["label"] == full["predictions"][0]["label"] == "grows"
    assert told["suspicion"] == {"score": None, "adversarial": True}
    assert told["purification"]["calibrated"] is True
    assert (server.operator_key_file.stat().st_mode & 0o777) == 0o600


def test_clients_do_not_switch_the_defence_off(server: TorchServe) -> None:
    fields = {"purify": "false"}
    refused = post(server, files={"video": VIDEO}, data=fields)
    assert refused.status_code == 400
    assert "option 'purify' is the operator's" in refused.json()["message"]
    allowed = post(server, files={"video": VIDEO}, data=fields, headers=operator(server))
    assert allowed.json()["votes"] is None
    evidence = post(server, "/explanations/videopure", data=VIDEO, headers=MP4)
    assert (evidence.status_code, evidence.reason) == (403, "Forbidden")


def test_describe_on_a_prediction_hijacks_no_batch(
    server: TorchServe, client: VideoPureClient
) -> None:
    """All of it are predictions, in whichever row of a batch the header comes."""
    marks = [{"describe": "True"}, {}] * 4
    with same_worker(client), ThreadPoolExecutor(len(marks)) as pool:
        answers = list(
            pool.map(lambda mark: post(server, data=VIDEO, headers={**MP4, **mark}), marks)
        )
    for answer in answers:
        assert answer.status_code == 200
        assert answer.json()["predictions"][0]["label"] == "grows"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "headers",
    [
        {"describe": "True", "Content-Type": "application/x-www-form-urlencoded"},
        {"describe": "True", "Content-Type": "multipart/form-data; boundary=x"},
    ],
)
def test_an_empty_form_gets_no_description(server: TorchServe, headers: dict[str, str]) -> None:
    answer = post(server, data=b"", headers=headers)
    assert answer.status_code >= 400
    assert "recogniser" not in answer.text
    assert "suspicion_threshold" not in answer.text
    with server.client() as asking:  # the management address tells it still
        assert "grows" in asking.describe()["recogniser"]["labels"]


@pytest.mark.parametrize("character", ["x", "\U0001f600"])
def test_an_id_of_megabytes_kills_no_worker(
    server: TorchServe, client: VideoPureClient, character: str
) -> None:
    """It would be echoed: beyond max_response_size, for which TorchServe kills the worker."""
    tensor = {"name": "video", "datatype": "BYTES", "shape": [1], "data": [BASE64]}
    body = {"id": character * (23 * 2**20 // len(character.encode())), "inputs": [tensor]}
    data = json.dumps(body, ensure_ascii=False).encode()
    with same_worker(client):
        answer = post(
            server,
            "/v2/models/videopure/infer",
            data=data,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("field 'id' may have 256 characters")


def test_json_of_millions_of_parts_costs_a_worker_nothing(
    server: TorchServe, client: VideoPureClient
) -> None:
    """TorchServe's own parser takes seconds and gigabytes for it: it must not be asked."""
    bomb = b"[" + b"[]," * (60 * 2**20 // 3) + b"[]]"
    with same_worker(client), ThreadPoolExecutor(2) as pool:
        headers = {"Content-Type": "application/json"}
        refused = pool.submit(post, server, data=bomb, headers=headers)
        mate = pool.submit(post, server, data=VIDEO, headers=MP4)
        assert refused.result().status_code == 400
        assert "more than 100000 parts" in refused.result().json()["message"]
        assert mate.result().status_code == 200
    # JSON as it should be is read all the same.
    good = post(server, json={"video": BASE64, "options": {"top_k": 1}})
    assert good.json()["predictions"][0]["label"] == "grows"
