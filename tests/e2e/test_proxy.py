"""A real nginx with deploy/proxy in front of a real TorchServe."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.load import wait_for
from tests.support.videos import encode, frames
from videopure.client import ClientError, RequestFailedError, VideoPureClient
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.wire.operator import OPERATOR_HEADER
from videopure.wire.schemas import Answer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx"),
]

PROXY = Path(__file__).parents[2] / "deploy" / "proxy"
VIDEO = encode(frames(8, 16, 24))
TOKEN = "c" * 64
KNOWN = {"Authorization": f"Bearer {TOKEN}"}


class Proxy:
    """Where the proxy listens, and its files."""

    def __init__(self, folder: Path, server: TorchServe) -> None:
        self.folder, self.server = folder, server
        self.port = free_addresses()["inference_address"].rpartition(":")[2]
        self.url = f"https://127.0.0.1:{self.port}"
        self.certificate = folder / "tls.crt"

    def write(self) -> None:
        """The files of deploy/proxy with the places of this machine."""
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
        files = ["-keyout", str(self.folder / "tls.key"), "-out", str(self.certificate)]
        subprocess.run([*made, *files], check=True, capture_output=True)
        (self.folder / "clients.map").write_text(f'"Bearer {TOKEN}" somebody;\n')
        shipped = (PROXY / "videopure.conf").read_text(encoding="utf-8")
        for place, own in {
            "/etc/nginx/videopure/": f"{self.folder}/",
            "/run/videopure/": f"{self.folder}/",
            "http://127.0.0.1:8080": self.server.client().inference_url,
            "listen 8443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "client_max_body_size 64m": "client_max_body_size 1m",
            "rate=20r/s": "rate=1000r/s",
        }.items():
            assert place in shipped
            shipped = shipped.replace(place, own)
        (self.folder / "conf.d").mkdir()
        (self.folder / "conf.d" / "videopure.conf").write_text(shipped)
        whole = (PROXY / "nginx.conf").read_text(encoding="utf-8")
        whole = whole.replace("/tmp/", f"{self.folder}/").replace("/etc/nginx/", f"{self.folder}/")
        (self.folder / "nginx.conf").write_text(whole)

    def renew(self) -> None:
        """As the timer does."""
        subprocess.run(
            [
                *(sys.executable, "-c", "from videopure.cli.main import main; main()"),
                *("key", str(self.folder / "proxy-key.conf")),
                *("--management-url", self.server.client().management_url),
                *("--key-file", str(self.server.folder / "key_file.json")),
            ],
            check=True,
        )

    def client(self) -> VideoPureClient:
        return VideoPureClient(self.url, key_file=self.folder / "none.json", headers=KNOWN)

    def post(self, path: str, headers: dict[str, str], data: bytes = VIDEO) -> requests.Response:
        sent = {"Content-Type": "video/mp4", **headers}
        trusted = str(self.certificate)
        return requests.post(self.url + path, data=data, headers=sent, verify=trusted, timeout=60)


@pytest.fixture(scope="module")
def server(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    folder = tmp_path_factory.mktemp("server")
    with TorchServe(tiny_archive, folder=folder, overrides=free_addresses()) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(server: TorchServe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    folder.chmod(0o755)
    running = Proxy(folder, server)
    running.write()
    running.renew()
    command = [str(PROXY / "run.sh"), str(folder / "proxy-key.conf"), "-c", f"{folder}/nginx.conf"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: (folder / "nginx.pid").is_file() or process.poll() is not None, "nginx")
        assert process.poll() is None, (folder / "log").read_text()
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture(autouse=True)
def trusted(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.certificate))


def test_known_clients_are_answered_as_the_policy_says(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.predict(VIDEO)
    assert answer.detail == "scores"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_unknown_clients_are_refused(proxy: Proxy, headers: dict[str, str]) -> None:
    assert proxy.post("/predictions/videopure", headers).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/", "/ping", "/explanations/videopure", "/models/videopure", "/metrics",
        "/predictions/videopure/", "/predictions/videopure/1.0", "/predictions/..%2fping",
        "/v1/models/videopure:predict",
    ],
)  # fmt: skip
def test_nothing_but_predictions_is_passed_on(proxy: Proxy, path: str) -> None:
    assert proxy.post(path, KNOWN).status_code == 404


def test_nobody_is_the_operator_behind_the_proxy(proxy: Proxy) -> None:
    key = proxy.server.operator_key_file.read_text().strip()
    for name, value in (
        (OPERATOR_HEADER, key),
        (OPERATOR_HEADER.lower(), key),
        ("explain", "True"),
    ):
        answer = proxy.post("/predictions/videopure", {**KNOWN, name: value})
        assert answer.status_code == 200, answer.text
        assert Answer.model_validate_json(answer.content).detail == "scores"
    described = requests.post(
        f"{proxy.url}/predictions/videopure",
        headers={**KNOWN, "describe": "True"},
        verify=str(proxy.certificate),
        timeout=60,
    )
    assert described.status_code == 422  # an empty video
    assert "recogniser" not in described.text


def test_bodies_are_limited(proxy: Proxy) -> None:
    answer = proxy.post("/predictions/videopure", KNOWN, b"\0" * (2 << 20))
    assert answer.status_code == 413


def test_clients_notice_nothing_of_a_renewal(proxy: Proxy) -> None:
    """Three renewals while three clients ask; for a moment TorchServe refuses the old key."""
    answers: list[Answer] = []
    errors: list[ClientError] = []
    ended = threading.Event()

    def ask() -> None:
        with proxy.client() as client:
            while not ended.is_set():
                try:
                    answers.append(client.predict(VIDEO))
                except ClientError as error:
                    errors.append(error)

    def more(count: int) -> None:
        goal = len(answers) + count
        wait_for(lambda: len(answers) >= goal or bool(errors), "more answers")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        more(3)
        for _ in range(3):
            before = keys(proxy)
            proxy.renew()
            assert keys(proxy) != before
            more(6)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert errors == []
    log = (proxy.folder / "log").read_text()
    print(f"{len(answers)} answers, {log.count(' 400 ')} refusals in between")


def keys(proxy: Proxy) -> str:
    return json.dumps(json.loads((proxy.server.folder / "key_file.json").read_text())["inference"])


def test_a_proxy_with_an_old_key_is_told_of_as_what_it_is(proxy: Proxy) -> None:
    """The error that is left when the timer does not run."""
    file = proxy.folder / "proxy-key.conf"
    fresh = file.read_text()
    file.write_text('proxy_set_header Authorization "Bearer old";\n')
    os.utime(file)
    with proxy.client() as client:
        wait_for(lambda: refused(client), "the old key")
    file.write_text(fresh)
    with proxy.client() as client:
        wait_for(lambda: not refused(client), "the new key")


def refused(client: VideoPureClient) -> bool:
    try:
        client.predict(VIDEO)
    except RequestFailedError as error:
        return error.type == "InvalidKeyException"
    return False
