"""Many clients, many videos, several workers: every answer is that of the video alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support.damage import whole_files
from tests.support.videos import encode, encode_hevc, frames
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.wire.schemas import Answer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    folder = tmp_path_factory.mktemp("load")
    with TorchServe(tiny_archive, folder=folder, overrides=free_addresses(), workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def videos() -> list[bytes]:
    """Several codecs, containers, sizes and lengths."""
    sized = [encode(frames(n, h, w)) for n, h, w in ((3, 16, 16), (40, 96, 64), (16, 240, 320))]
    return [*whole_files().values(), encode_hevc(frames(8, 64, 64)), *sized]


def resident(pids: list[int]) -> list[int]:
    return [psutil.Process(pid).memory_info().rss for pid in pids]


def same(answer: Answer, alone: Answer) -> bool:
    """Whether all but what belongs to the request agrees; batches differ in the last digits."""
    scores = {p.label: p.score for p in answer.predictions}
    return (
        [p.label for p in answer.predictions][:1] == [p.label for p in alone.predictions][:1]
        and all(abs(scores[p.label] - p.score) < 1e-3 for p in alone.predictions)
        and answer.video == alone.video
        and answer.warnings == alone.warnings
    )


def test_two_hundred_requests_of_four_clients(server: TorchServe, videos: list[bytes]) -> None:
    with server.client() as client:
        pids = [worker.pid for worker in client.workers()]
        assert len(pids) == 2
        alone = [client.predict(video, votes="full") for video in videos]

        def ask(number: int) -> Answer:
            return client.predict(videos[number % len(videos)], votes="full")

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, range(50)))
            after_50 = resident(pids)
            answers += pool.map(ask, range(50, 200))
            after_200 = resident(pids)
        assert [worker.pid for worker in client.workers()] == pids
    for number, answer in enumerate(answers):
        assert same(answer, alone[number % len(videos)]), (number, answer)
    assert len({answer.request_id for answer in answers}) == 200
    for before, after in zip(after_50, after_200, strict=True):
        assert after < 1.1 * before
