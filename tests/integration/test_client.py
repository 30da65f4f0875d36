"""The client against servers that are none, and the server's start where it cannot work."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from videopure.client import (
    KeyFileError,
    RequestFailedError,
    ServerUnreachableError,
    VideoPureClient,
)
from videopure.client.ports import free_addresses, taken_address
from videopure.client.server import ServerError, TorchServe

pytestmark = pytest.mark.integration


class _OtherServer(BaseHTTPRequestHandler):
    """Answers 200 with a page, or with the headers it got at /predictions/echo."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        echo = self.path.endswith("echo")
        body = json.dumps(dict(self.headers)) if echo else "<html>"
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if echo else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def other_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _OtherServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key_file.json"
    path.write_text(json.dumps({"inference": {"key": "the-key"}}))
    return path


def test_an_answer_that_is_not_torchserves_is_an_error(other_server: str, key_file: Path) -> None:
    with (
        VideoPureClient(other_server, key_file=key_file) as client,
        pytest.raises(RequestFailedError, match=r"does not answer like TorchServe .*text/html"),
    ):
        client.predict(b"video")


def test_proxies_and_netrc_are_not_for_the_own_machine(
    other_server: str, key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{port_of_nobody()}")
    monkeypatch.setenv("no_proxy", "")
    with VideoPureClient(other_server, model="echo", key_file=key_file) as client:
        assert client.predict(b"video")["Authorization"] == "Bearer the-key"


def port_of_nobody() -> str:
    return free_addresses()["inference_address"].removeprefix("http://")


def test_no_server_is_said_so(key_file: Path) -> None:
    addresses = free_addresses()
    url = addresses["inference_address"]
    with VideoPureClient(url, addresses["management_address"], key_file=key_file) as client:
        with pytest.raises(ServerUnreachableError, match=f"no server answers at {url}"):
            client.predict(b"video")
        assert not client.all_ready()
        with pytest.raises(ServerUnreachableError, match="not ready after 0 s"):
            client.wait_until_ready(timeout=0)


def test_a_damaged_key_file_is_named(key_file: Path) -> None:
    key_file.write_text("{")
    with (
        VideoPureClient(free_addresses()["inference_address"], key_file=key_file) as client,
        pytest.raises(KeyFileError, match=r"key_file\.json cannot be read"),
    ):
        client.predict(b"video")


@pytest.mark.parametrize("which", ["inference_address", "metrics_address", "grpc_management_port"])
def test_a_second_server_disturbs_the_first_in_nothing(
    which: str, key_file: Path, tmp_path: Path
) -> None:
    """Its key file and its log stay, and its answers are not taken for the second one's."""
    addresses = free_addresses()
    port = int(addresses[which].rpartition(":")[2])
    archive = tmp_path / "videopure.mar"
    archive.touch()
    keys = key_file.read_text()
    with socket.create_server(("127.0.0.1", port)):
        server = TorchServe(archive, folder=tmp_path, overrides=addresses)
        with pytest.raises(ServerError, match=f"another process listens on 127.0.0.1:{port}"):
            server.__enter__()
        assert key_file.read_text() == keys
        assert not server.log_file.exists()
    assert taken_address(addresses) is None


def test_unix_sockets_are_not_looked_for() -> None:
    addresses = free_addresses() | {"inference_address": "unix:/tmp/videopure.sock"}
    assert taken_address(addresses) is None
