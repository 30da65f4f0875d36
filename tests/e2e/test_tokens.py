"""Keys that run out while clients are at work."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.support.load import wait_for
from tests.support.videos import encode, frames
from videopure.client import KeyFileError, VideoPureClient
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.wire.schemas import Answer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

VIDEO = encode(frames(8, 16, 24))


def refused(answer: requests.Response) -> bool:
    return answer.status_code == 400 and answer.json()["type"] == "InvalidKeyException"


def predict(server: TorchServe) -> Answer:
    with server.client() as client:
        return client.predict(VIDEO, purify=False)


def test_the_client_works_through_a_renewal(tiny_archive: Path, tmp_path: Path) -> None:
    overrides = {**free_addresses(), "token_expiration_min": "1"}
    with (
        TorchServe(tiny_archive, folder=tmp_path, overrides=overrides) as server,
        server.client() as client,
    ):
        before = json.loads(client.key_file.read_text())
        inference, management = client.inference_url, client.management_url
        calls = [
            ("GET", f"{inference}/ping"),
            ("POST", f"{inference}/predictions/videopure"),
            ("POST", f"{inference}/explanations/videopure"),
            ("POST", f"{inference}/v1/models/videopure:predict"),
            ("POST", f"{inference}/v2/models/videopure/infer"),
            ("GET", f"{management}/models"),
            ("PUT", f"{management}/models/videopure?min_worker=2"),
            ("GET", f"{management}/token?type=inference"),
        ]
        for wrong in ({}, {"Authorization": "Bearer wrong"}):
            for method, url in calls:
                assert refused(requests.request(method, url, headers=wrong, timeout=60)), url
        assert client.predict(VIDEO)
        with (
            VideoPureClient(inference, management, key_file=tmp_path / "elsewhere.json") as keyless,
            pytest.raises(KeyFileError, match=r"asks for a key, and there is no key file .*elsewh"),
        ):
            keyless.predict(VIDEO)

        old = {"Authorization": f"Bearer {before['inference']['key']}"}
        wait_for(
            lambda: refused(requests.get(f"{inference}/ping", headers=old, timeout=60)),
            "end of the key",
        )
        # Many at once, each with a client of its own: a renewal makes the others' new keys invalid.
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(predict, [server] * 8))
        assert client.ready()
        after = json.loads(client.key_file.read_text())
        assert after["inference"]["key"] != before["inference"]["key"]
        assert client.predict(VIDEO)  # with the new key as it is
