"""deploy/ray_serve.py: the tests that are about our own answers, against Ray Serve."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import test_openapi
from tests.e2e.test_policy import (
    test_clients_are_told_less_than_the_operator,
    test_clients_do_not_switch_the_defence_off,
)
from tests.e2e.test_predictions import (
    clip,
    test_a_clean_clip_is_recognised,
    test_a_request_without_a_key_is_refused,
    test_each_bad_body_gets_its_own_error,
    test_options_come_in_multipart_and_in_json,
)
from tests.e2e.test_protocols import (
    test_bodies_are_known_by_their_looks,
    test_every_address_of_the_model_answers,
    test_kserve_v1,
    test_open_inference_protocol,
    test_the_evidence_is_a_video,
    validator,
)
from tests.support.load import wait_for
from videopure.client import ModelNotFoundError, VideoPureClient
from videopure.launcher.ports import free_addresses

__all__ = [
    "clip",
    "test_a_clean_clip_is_recognised",
    "test_a_request_without_a_key_is_refused",
    "test_bodies_are_known_by_their_looks",
    "test_clients_are_told_less_than_the_operator",
    "test_clients_do_not_switch_the_defence_off",
    "test_each_bad_body_gets_its_own_error",
    "test_every_address_of_the_model_answers",
    "test_kserve_v1",
    "test_open_inference_protocol",
    "test_options_come_in_multipart_and_in_json",
    "test_the_evidence_is_a_video",
    "validator",
]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray"),
]

PROGRAM = Path(__file__).parents[2] / "deploy" / "ray_serve.py"
# TorchServe's own: its metrics, its keys' renewal, its workers.
ITS_OWN = {"/metrics", "/token"}


class RayServer:
    """A running deploy/ray_serve.py, as the tests ask a TorchServe."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.operator_key_file = folder / "operator_key"
        self.overrides: Mapping[str, str] = {}

    def client(self, timeout: float = 120.0) -> VideoPureClient:
        key_file = self.folder / "key_file.json"
        return VideoPureClient(self.url, self.url, self.url, key_file=key_file, timeout=timeout)


@pytest.fixture(scope="module")
def server(demo_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServer]:
    folder = tmp_path_factory.mktemp("ray")
    port = free_addresses()["inference_address"].rpartition(":")[2]
    running = RayServer(folder, f"http://127.0.0.1:{port}")
    running.operator_key_file.write_text(secrets.token_hex(32))
    running.operator_key_file.chmod(0o600)
    environment = {
        **os.environ,
        "VIDEOPURE_OPERATOR_KEY_FILE": str(running.operator_key_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(PROGRAM), "--archive", str(demo_archive), "--port", port]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        wait_for(lambda: "Ready:" in log.read_text() or process.poll() is not None, "Ray", 900)
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [call for call in test_openapi.CALLS if call[1] not in ITS_OWN and call[0] != "put"],
)
def test_the_document_holds(
    server: Any, method: str, path: str, sent: dict[str, Any], status: int
) -> None:
    test_openapi.test_answers_are_those_of_the_document(server, method, path, sent, status)


def test_the_client_works_as_with_torchserve(server: RayServer) -> None:
    with server.client() as client:
        client.wait_until_ready()
        assert client.status().ready
        assert "grows" in client.describe()["recogniser"]["labels"]
    keys = json.loads((server.folder / "key_file.json").read_text())
    assert {"inference", "management"} <= keys.keys()
    with VideoPureClient(
        server.url, server.url, model="other", key_file=server.folder / "key_file.json"
    ) as other:
        with pytest.raises(ModelNotFoundError):
            other.predict(b"video")
        with pytest.raises(ModelNotFoundError):
            other.status()
