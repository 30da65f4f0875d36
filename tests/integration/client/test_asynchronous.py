"""The client for asyncio: the same surface, the same care, and several requests at a time."""

import asyncio
import inspect
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from videopure.client import (
    AsyncVideoPureClient,
    ConnectionLostError,
    RequestFailedError,
    VideoPureClient,
)
from videopure.wire.schemas import Answer

pytestmark = pytest.mark.integration

SAMPLE = Path(__file__).parents[3] / "docs" / "samples" / "predict.jsonl"


class _Server(ThreadingHTTPServer):
    """Answers like TorchServe with keys: the label of an answer is the video's own text.

    Args:
        key: of predictions; `GET /token` makes another one and writes it into `key_file`.
        gathered: how many requests a prediction waits for before it is answered.
    """

    def __init__(self, key_file: Path, gathered: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key_file = key_file
        self.renewals = 0
        self.gather = threading.Barrier(gathered, timeout=30)
        self.write_key("old")
        self.key = "new"  # so that the file's is out of date
        self.fields: list[bytes] = []

    def write_key(self, key: str) -> None:
        self.key = key
        keys = {"inference": {"key": key}, "management": {"key": key}, "API": {"key": "api"}}
        self.key_file.write_text(json.dumps(keys))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/token"):
            assert self.headers["Authorization"] == "Bearer api"
            self.server.renewals += 1
            self.server.write_key(f"new-{self.server.renewals}")
            return self._answer(200, {})
        return self._answer(200, "<html>")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {self.server.key}":
            return self._answer(400, {"type": "InvalidKeyException", "message": "no"})
        if body == b"bad":
            return self._answer(422, {"type": "Bad", "message": "no video"})
        self.server.fields.append(body)
        self.server.gather.wait()
        answer = json.loads(SAMPLE.read_text(encoding="utf-8").splitlines()[0])
        answer["predictions"][0]["label"] = body.decode(errors="replace")
        return self._answer(200, answer)

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., _Server]]:
    running: list[tuple[_Server, threading.Thread]] = []

    def start(gathered: int = 1) -> _Server:
        server = _Server(tmp_path / "key_file.json", gathered)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def client_of(server: _Server) -> AsyncVideoPureClient:
    return AsyncVideoPureClient(server.url, server.url, key_file=server.key_file)


def label(answer: object) -> str:
    assert isinstance(answer, Answer), answer
    return answer.predictions[0].label


def methods(client: type) -> dict[str, list[inspect.Parameter]]:
    """The public methods and their parameters, those of the context manager apart."""
    return {
        name: list(inspect.signature(method).parameters.values())
        for name, method in inspect.getmembers(client, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_surface() -> None:
    assert methods(AsyncVideoPureClient) == methods(VideoPureClient)
    assert len(methods(VideoPureClient)) == 12
    assert inspect.signature(AsyncVideoPureClient) == inspect.signature(VideoPureClient)


def test_an_expired_key_is_renewed_once_for_all_that_wait(serve: Callable[..., _Server]) -> None:
    """Five requests meet: each renewal makes the key before it invalid, so one has to do."""
    server = serve(gathered=5)

    async def ask() -> list[Answer]:
        async with client_of(server) as client:
            return await asyncio.gather(*(client.predict(bytes([65 + n])) for n in range(5)))

    assert [label(answer) for answer in asyncio.run(ask())] == ["A", "B", "C", "D", "E"]
    assert server.renewals == 1


def test_many_videos_are_answered_in_order_and_asked_together(
    serve: Callable[..., _Server], tmp_path: Path
) -> None:
    """The server answers in pairs alone: one request at a time would wait for ever."""
    server = serve(gathered=2)
    (tmp_path / "b").write_bytes(b"two")
    videos = [b"one", tmp_path / "b", tmp_path / "missing", b"bad", b"three", b"four"]

    async def ask() -> list[object]:
        async with client_of(server) as client:
            return [one async for one in client.predict_many(videos, concurrency=4)]

    one, two, missing, bad, three, four = asyncio.run(ask())
    assert [label(one), label(two), label(three), label(four)] == ["one", "two", "three", "four"]
    assert isinstance(missing, FileNotFoundError)
    assert isinstance(bad, RequestFailedError)
    assert bad.status == 422


def test_many_videos_that_nobody_waits_for_are_let_go(serve: Callable[..., _Server]) -> None:
    server = serve()

    async def ask() -> int:
        async with client_of(server) as client:
            answers = client.predict_many((b"%d" % n for n in range(10**9)), concurrency=1)
            assert label(await anext(answers)) == "0"
            await answers.aclose()
            await asyncio.sleep(0)
            return len(asyncio.all_tasks())

    assert asyncio.run(ask()) == 1  # this one
    assert len(server.fields) < 10


def test_options_are_sent_as_fields(serve: Callable[..., _Server]) -> None:
    server = serve()

    async def ask() -> Answer:
        async with client_of(server) as client:
            return await client.predict(b"clip", top_k=3, purify=False)

    asyncio.run(ask())
    (body,) = server.fields
    assert b'name="top_k"\r\n\r\n3\r\n' in body
    assert b'name="purify"\r\n\r\nfalse\r\n' in body


def test_a_renewed_key_is_that_of_the_file(serve: Callable[..., _Server]) -> None:
    server = serve()

    async def ask() -> str:
        async with client_of(server) as client:
            return await client.renew_key()

    assert asyncio.run(ask()) == "new-1"
    with VideoPureClient(server.url, server.url, key_file=server.key_file) as client:
        assert client.renew_key("management") == "new-2"


def test_a_silent_server_is_not_waited_for_longer_than_told() -> None:
    async def ask() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            async with AsyncVideoPureClient(url, url, timeout=0.2) as client:
                with pytest.raises(ConnectionLostError, match=r"did not answer in 0\.2 s"):
                    await client.predict(b"video")

    asyncio.run(ask())
