"""Files and requests made to hold or break a worker, against a real TorchServe."""

from __future__ import annotations

import http.client
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.authorization import client_key
from tests.support.fuzzing import KEY, Sent, fuzzed_file, fuzzed_request
from tests.support.handling import STATUSES
from tests.support.hostile import endless_sound, invisible_frames, packed_header
from tests.support.videos import encode, frames
from videopure.archive.configure import configure_archive
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.wire.operator import KEY_FILE_VARIABLE

pytestmark = pytest.mark.e2e

GOOD = Sent("/predictions/videopure", {"Content-Type": "video/mp4"}, encode(frames(8, 16, 24)))
BATCH = 4
SETTINGS: dict[str, Any] = {
    "batchSize": BATCH,
    "maxBatchDelay": 2000,  # so that what is sent together is one batch
    "responseTimeout": 20,
    "videopure": {
        "limits": {"max_decode_seconds": 2},
        "purification": {"method": "one_look", "inversion_steps": 0},
    },
}


@pytest.fixture(scope="module")
def server(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    folder = tmp_path_factory.mktemp("hostile")
    archive = folder / "videopure.mar"
    shutil.copyfile(tiny_archive, archive)
    configure_archive(archive, SETTINGS)
    key = folder / "own_key"
    key.write_text(KEY)
    environment = {KEY_FILE_VARIABLE: str(key)}
    addresses = free_addresses()
    with TorchServe(
        archive, folder=folder, overrides=addresses, environment=environment
    ) as running:
        yield running


def post(server: TorchServe, sent: Sent) -> tuple[int, bytes]:
    """Status and content; of headers, what HTTP can say is sent as it is."""
    made = sent.over_http()
    url = urlsplit(server.client().inference_url)
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=120)
    try:
        connection.putrequest("POST", made.path)
        for name, value in {**made.headers, **client_key(server)}.items():
            connection.putheader(name, value.encode())
        connection.putheader("Content-Length", str(len(made.body)))
        connection.endheaders(made.body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@contextmanager
def same_worker(server: TorchServe) -> Iterator[None]:
    """No worker dies meanwhile."""
    with server.client() as client:
        before = [worker.pid for worker in client.workers()]
        yield
        assert [worker.pid for worker in client.workers()] == before
        assert client.ready()


def logged(server: TorchServe) -> dict[str, dict[str, Any]]:
    """The worker's lines about requests, by their ids."""
    lines = server.log_file.read_text(errors="replace").splitlines()
    texts = [line[line.index("{") :] for line in lines if '"event": "request"' in line]
    entries = map(json.loads, texts)
    return {entry["request_id"]: entry for entry in entries}


@pytest.mark.parametrize(
    ("make", "statuses", "words"),
    [
        (lambda: invisible_frames(2000), {413}, "takes longer than the 2 s allowed"),
        # A fast machine reads the index of so many samples in time, and then there is no fault.
        (lambda: endless_sound(10_000_000), {200, 413}, "takes longer than the 2 s allowed"),
        (lambda: packed_header(16), {415}, "compressed header"),
    ],
    ids=["invisible frames", "endless sound", "packed header"],
)
def test_a_file_that_would_take_minutes_is_refused_and_its_batch_mates_are_answered(
    server: TorchServe, make: Callable[[], bytes], statuses: set[int], words: str
) -> None:
    hostile = Sent(GOOD.path, GOOD.headers, make())
    with same_worker(server), ThreadPoolExecutor(BATCH) as pool:
        sent = [hostile, *[GOOD] * (BATCH - 1)]
        answers = list(pool.map(lambda one: post(server, one), sent))
    (status, _), *mates = answers
    assert status in statuses
    assert [answer[0] for answer in mates] == [200] * (BATCH - 1)
    bodies = [json.loads(content) for _, content in answers]
    assert status == 200 or words in bodies[0]["message"]
    sizes = {logged(server)[body["request_id"]]["batch_size"] for body in bodies}
    assert sizes == {BATCH}


@pytest.mark.slow
@pytest.mark.parametrize("make", [fuzzed_request, fuzzed_file])
def test_odd_requests_and_files_cost_neither_a_worker_nor_their_neighbours(
    server: TorchServe, make: Callable[[int, int], Sent]
) -> None:
    """A hundredth of those that `tests.fuzz.campaign` sends without a server."""
    statuses: Counter[int] = Counter()
    with same_worker(server), ThreadPoolExecutor(BATCH) as pool:
        for start in range(0, 5000, 100 * (BATCH - 1)):
            numbers = range(start, min(5000, start + 100 * (BATCH - 1)), 100)
            sent = [*(make(number, 0) for number in numbers), GOOD]
            answers = list(pool.map(lambda one: post(server, one), sent))
            assert answers[-1][0] == 200, (start, answers[-1][1])
            for number, (status, content) in zip(numbers, answers, strict=False):
                assert status in (*STATUSES, 404, 405), (number, content)
                statuses[status] += 1
    assert statuses.total() == 50
    assert statuses[503] == 0
