"""A small HTTP server over a worker's real handler: TorchServe without its Java."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.fuzzing import KEY, Sent
from tests.support.handling import ask, handler_of
from videopure.client import VideoPureClient
from videopure.format.manifest import Manifest
from videopure.handler.description import describe

__all__ = ["small_server"]


@contextmanager
def small_server(archive: Path, folder: Path) -> Iterator[VideoPureClient]:
    """An operator's client of a server that has one worker and answers one request at a time.

    Args:
        archive: to serve.
        folder: an empty one.
    """
    one = threading.Lock()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with one:
                (told,) = ask(handler, _sent(self.path, headers, body))
            self._answer(told.status, told.kind, told.content)

        def do_GET(self) -> None:
            with one:
                told = describe(handler.service, Manifest.read(handler.root))
            self._answer(200, "application/json", json.dumps([{"customizedMetadata": told}]))

        def _answer(self, status: int, kind: str, content: str | bytes) -> None:
            data = content.encode() if isinstance(content, str) else bytes(content)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with (
        handler_of(archive, folder, {}) as handler,
        ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        (folder / "operator_key").write_text(KEY)
        try:
            with VideoPureClient(url, url, url, key_file=folder / "key_file.json") as client:
                yield client
        finally:
            server.shutdown()
            thread.join()


def _sent(path: str, headers: dict[str, str], body: bytes) -> Sent:
    kind = headers["content-type"]
    if not kind.startswith("multipart/form-data"):
        return Sent(path, headers, body)
    form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    parts: Any = form.get_payload()
    fields = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in parts
    }
    return Sent(path, headers, fields=fields)
