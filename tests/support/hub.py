"""A small server that speaks the Hugging Face hub's protocol for the files of local folders."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

__all__ = ["COMMIT", "serve_hub", "use_hub"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def use_hub(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub ask this server."""
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def _json(content: object) -> tuple[int, bytes, dict[str, str]]:
    return 200, json.dumps(content).encode(), {"Content-Type": "application/json"}


@contextmanager
def serve_hub(root: Path, requests: list[str]) -> Iterator[str]:
    """Serve `root/OWNER/NAME` as repositories; paths that are asked for go into `requests`."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            requests.append(self.path)
            self._answer(body=True)

        def log_message(self, *args: object) -> None:
            pass

        def _answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            found = re.match(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/[\w.-]+)?$", path)
            if found and (root / found[1]).is_dir():
                self._send(*self._info(found[1]), body=body)
                return
            found = re.match(rf"/api/models/([\w.-]+/[\w.-]+)/tree/{COMMIT}$", path)
            if found and (root / found[1]).is_dir():
                self._send(*self._tree(found[1]), body=body)
                return
            found = re.match(rf"/([\w.-]+/[\w.-]+)/resolve/{COMMIT}/(.+)$", path)
            if found and (root / found[1] / found[2]).is_file():
                data = (root / found[1] / found[2]).read_bytes()
                digest = hashlib.sha256(data).hexdigest()
                headers = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}
                self._send(200, data, headers, body=body)
                return
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)

        def _info(self, repo: str) -> tuple[int, bytes, dict[str, str]]:
            siblings = [{"rfilename": name} for name in self._files(repo)]
            return _json({"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings})

        def _tree(self, repo: str) -> tuple[int, bytes, dict[str, str]]:
            return _json(
                [
                    {"type": "file", "path": name, "size": file.stat().st_size, "oid": "0" * 40}
                    for name, file in self._files(repo).items()
                ]
            )

        def _files(self, repo: str) -> dict[str, Path]:
            paths = sorted(path for path in (root / repo).rglob("*") if path.is_file())
            return {path.relative_to(root / repo).as_posix(): path for path in paths}

        def _send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
