"""What the client gives away: keys and videos go to the address that was asked, and no further."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.videos import encode, frames
from videopure.client import (
    Evidence,
    KeyFileError,
    NotTorchServeError,
    RequestFailedError,
    VideoPureClient,
)

pytestmark = pytest.mark.integration


class _Server(ThreadingHTTPServer):
    """Answers every request with one status and its headers; keeps what it was sent."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.headers = status, headers
        self.seen: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, {k.lower(): v for k, v in self.headers.items()}))
        body = json.dumps({"code": self.server.status, "type": "Busy", "message": "later"})
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve() -> Iterator[Any]:
    running: list[tuple[_Server, threading.Thread]] = []

    def start(status: int, **headers: str) -> _Server:
        server = _Server(status, {n.replace("_", "-"): value for n, value in headers.items()})
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def client_of(server: _Server, folder: Path, **headers: str) -> VideoPureClient:
    return VideoPureClient(
        server.url,
        server.url,
        key_file=folder / "key_file.json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(serve: Any, tmp_path: Path, status: int) -> None:
    elsewhere = serve(200)
    server = serve(status, Location=f"{elsewhere.url}/predictions/videopure")
    with client_of(server, tmp_path, X_Api_Key="secret") as client:
        with pytest.raises(NotTorchServeError, match="redirects to http"):
            client.predict(b"video")
        with pytest.raises(NotTorchServeError, match="redirects to http"):
            client.status()
    assert elsewhere.seen == []
    assert len(server.seen) == 2


def test_a_503_that_says_when_to_come_again_is_told_as_what_it_is(
    serve: Any, tmp_path: Path
) -> None:
    server = serve(503, Retry_After="0")
    with client_of(server, tmp_path) as client:
        with pytest.raises(RequestFailedError, match="503 Busy: later"):
            client.status()
        with pytest.raises(RequestFailedError, match="503 Busy: later"):
            client.predict(b"video")
    assert len(server.seen) == 2


def test_the_operators_key_goes_with_predictions_alone(serve: Any, tmp_path: Path) -> None:
    server = serve(503)
    (tmp_path / "operator_key").write_text("the-key\n")
    with client_of(server, tmp_path) as client:
        for ask in (lambda: client.predict(b"video"), lambda: client.explain(b"video", top_k=1)):
            with pytest.raises(RequestFailedError):
                ask()
        with pytest.raises(RequestFailedError):
            client.status()
    sent = [headers.get("x-videopure-operator") for _, headers in server.seen]
    assert sent == ["the-key", "the-key", None]


def test_an_operators_key_that_cannot_be_read_is_told(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "operator_key").mkdir()
    with (
        client_of(serve(200), tmp_path) as client,
        pytest.raises(KeyFileError, match=r"operator's key .* cannot be read"),
    ):
        client.predict(b"video")


def test_evidence_is_an_mp4_and_nothing_else() -> None:
    """A server that is none may answer with a playlist, which names files of the client's own."""
    for data in (b"ffconcat version 1.0\nfile 'x.mp4'\n", encode(frames(4, 16, 24), "matroska")):
        with pytest.raises(ValueError, match="the evidence cannot be opened"):
            Evidence.parse(data)
