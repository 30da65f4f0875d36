"""The base install: the client and the commands that ask a server, without torch."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.light import BLOCK
from tests.unit.client.test_status import described

pytestmark = pytest.mark.unit

ANSWER = (Path(__file__).parents[3] / "docs/samples/predict.jsonl").read_text().splitlines()[0]
MODEL = {**described("READY"), "customizedMetadata": '{"labels": ["up", "down"]}'}


class _Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(ANSWER)

    def do_GET(self) -> None:
        self._answer(json.dumps([MODEL]))

    def _answer(self, body: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """The `videopure` command in a process that has the base install alone."""
    program = f"{BLOCK}\nfrom videopure.cli.main import main\nsys.argv[0] = 'videopure'\nmain()"
    return subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_that_ask_a_server_need_the_base_alone(url: str, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"video")
    predicted = run(tmp_path, "predict", "clip.mp4", "--url", url, "--top-k", "1", "--json")
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(predicted.stdout)["predictions"] == json.loads(ANSWER)["predictions"]
    asked = run(tmp_path, "status", "--management-url", url, "--json")
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["ready"] is True
    told = run(tmp_path, "describe", "--management-url", url)
    assert json.loads(told.stdout) == {"labels": ["up", "down"]}
    listed = run(tmp_path, "workers", "--management-url", url)
    assert "READY" in listed.stdout, listed.stderr


def test_other_commands_say_what_to_install(tmp_path: Path) -> None:
    refused = run(tmp_path, "verify", ".")
    assert refused.returncode == 1
    said = " ".join(refused.stderr.split())
    assert "this command needs torch: in the folder of your VideoPure checkout, run:" in said
    assert "--editable '.[serve]'" in said
    assert "Traceback" not in refused.stderr


def test_the_block_blocks() -> None:
    """What is not blocked is not shown to be needless."""
    run = subprocess.run(
        [sys.executable, "-c", f"{BLOCK}\nimport torch"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'torch'" in run.stderr
