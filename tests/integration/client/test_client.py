"""The client against servers that are none, and the server's start where it cannot work."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from videopure.client import (
    ConnectionLostError,
    KeyFileError,
    NotTorchServeError,
    ServerUnreachableError,
    VideoPureClient,
)
from videopure.launcher.ports import free_addresses, taken_address
from videopure.launcher.server import ServerError, TorchServe

pytestmark = pytest.mark.integration


class _OtherServer(BaseHTTPRequestHandler):
    """Answers 200 with a page; keeps the keys that it was shown, and who connected."""

    protocol_version = "HTTP/1.1"  # connections are kept
    keys: ClassVar[list[str | None]] = []
    connections: ClassVar[set[tuple[str, int]]] = set()

    def do_POST(self) -> None:
        self.keys.append(self.headers["Authorization"])
        self.connections.add(self.client_address)
        self.rfile.read(int(self.headers["Content-Length"]))
        body = "<html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def other_server() -> Iterator[str]:
    _OtherServer.connections.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _OtherServer) as server:
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
        pytest.raises(NotTorchServeError, match=r"does not answer like VideoPure .*text/html"),
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
    with VideoPureClient(other_server, key_file=key_file) as client:
        with pytest.raises(NotTorchServeError):
            client.predict(b"video")
        assert _OtherServer.keys[-1] == "Bearer the-key"


def test_connections_are_kept_and_shared(other_server: str, key_file: Path) -> None:
    with VideoPureClient(other_server, key_file=key_file) as client:
        for _ in range(3):
            with pytest.raises(NotTorchServeError):
                client.predict(b"video")
    assert len(_OtherServer.connections) == 1


def test_a_proxy_of_ones_own_has_its_own_authorization(other_server: str, key_file: Path) -> None:
    headers = {"authorization": "Basic mine"}
    with VideoPureClient(other_server, key_file=key_file, headers=headers) as client:
        with pytest.raises(NotTorchServeError):
            client.predict(b"video")
        assert _OtherServer.keys[-1] == "Basic mine"


def test_other_machines_are_reached_as_the_environment_says(
    other_server: str, key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its proxies and certificates, though the management address is this machine's."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine videopure.invalid login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", other_server)
    monkeypatch.setenv("no_proxy", "")
    with (
        VideoPureClient("http://videopure.invalid", key_file=key_file) as client,
        pytest.raises(NotTorchServeError),  # the proxy's answer
    ):
        client.predict(b"video")
    assert _OtherServer.keys[-1] == "Bearer the-key"


def test_a_server_that_is_silent_is_not_waited_for_longer_than_told(key_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            VideoPureClient(url, url, key_file=key_file, timeout=0.2) as client,
            pytest.raises(ConnectionLostError, match=r"did not answer in 0\.2 s"),
        ):
            client.predict(b"video")


def port_of_nobody() -> str:
    return free_addresses()["inference_address"].removeprefix("http://")


def test_no_server_is_said_so(key_file: Path) -> None:
    addresses = free_addresses()
    url = addresses["inference_address"]
    with VideoPureClient(url, addresses["management_address"], key_file=key_file) as client:
        with pytest.raises(ServerUnreachableError, match=f"no server answers at {url}"):
            client.predict(b"video")
        assert not client.ready()
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


def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: TorchServe is not installed."""
    (tmp_path / "ts").mkdir()
    (tmp_path / "ts" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    archive = tmp_path / "videopure.mar"
    archive.touch()
    server = TorchServe(archive, folder=tmp_path, overrides=free_addresses())
    with pytest.raises(ServerError, match=r"ended while starting.*No module named ts\."), server:
        pass


def test_unix_sockets_are_not_looked_for() -> None:
    addresses = free_addresses() | {"inference_address": "unix:/tmp/videopure.sock"}
    assert taken_address(addresses) is None


class _BrokenServer:
    """Takes connections, reads the beginning of what is sent, and hangs up; counts them."""

    def __init__(self) -> None:
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "_BrokenServer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            self.connections += 1
            with connection:
                connection.recv(100)


def test_what_may_have_been_computed_is_not_sent_twice(key_file: Path) -> None:
    with (
        _BrokenServer() as server,
        VideoPureClient(server.url, server.url, key_file=key_file) as client,
    ):
        with pytest.raises(ConnectionLostError, match="broke before the answer came"):
            client.predict(b"video")
        assert server.connections == 1
        with pytest.raises(ConnectionLostError):
            client.status()
        assert server.connections == 4  # asking again does no harm: two more times
