"""Hundreds of damaged files and nonsensical options against a real TorchServe."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.authorization import operator
from tests.support.damage import damaged_files
from tests.support.videos import encode, frames
from videopure.client.api import VideoPureClient
from videopure.handler.requests import Options
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.wire.schemas import Answer, ErrorAnswer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    folder = tmp_path_factory.mktemp("damage")
    with TorchServe(tiny_archive, folder=folder, overrides=free_addresses()) as running:
        yield running


def pids(client: VideoPureClient) -> list[int]:
    return [worker.pid for worker in client.workers()]


def post(server: TorchServe, body: bytes, content_type: str) -> tuple[int, dict[str, Any]]:
    """Status and answer, in one of the two documented shapes."""
    client = server.client()
    key = json.loads(client.key_file.read_text())["inference"]["key"]
    answer = requests.post(
        f"{client.inference_url}/predictions/{client.model}",
        data=body,
        headers={
            "Authorization": f"Bearer {key}",
            "Content-Type": content_type,
            **operator(server),
        },
        timeout=120,
    )
    shape = Answer if answer.status_code == 200 else ErrorAnswer
    shape.model_validate(answer.json())
    return answer.status_code, answer.json()


def resident(client: VideoPureClient) -> float:
    """Mebibytes that the worker holds."""
    (pid,) = pids(client)
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def test_no_damaged_file_ever_costs_a_worker_or_a_neighbour(server: TorchServe) -> None:
    """Two thousand files of all containers that are read, among good ones in the same batches."""
    good = encode(frames(8, 16, 24))
    files = list(damaged_files(2000, seed=1))
    groups = [[*files[at : at + 7], ("good", good)] for at in range(0, len(files), 7)]
    counts: Counter[int] = Counter()
    held = []
    with server.client() as client, ThreadPoolExecutor(8) as pool:
        before = pids(client)
        for quarter in range(4):
            sent = [file for group in groups[quarter::4] for file in group]
            answers = pool.map(lambda file: post(server, file[1], "video/mp4"), sent)
            for (name, _), (status, body) in zip(sent, answers, strict=True):
                assert status in ((200,) if name == "good" else (200, 413, 415, 422)), (name, body)
                counts[status] += name != "good"
            held.append(resident(client))
        assert pids(client) == before
        assert client.ready()
    assert counts[422] > 500  # what damage leaves can often still be shown
    assert counts[200] > 500
    assert counts[413] >= 1
    assert counts[415] >= 1
    # The first quarter fills the allocator's and the codecs' own stores.
    assert held[3] < held[0] + 100, held


values = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["early", "full", "ddpm", "videopure"]),
)
names = st.one_of(st.sampled_from(sorted(Options.model_fields)), st.text(max_size=8))
option_sets = st.dictionaries(names, values, max_size=3)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(option_sets)
def test_any_options_are_answered_or_named(server: TorchServe, chosen: dict[str, Any]) -> None:
    chosen = {"purify": False, **chosen}
    video = base64.b64encode(encode(frames(4, 16, 24))).decode()
    body = json.dumps({"video": video, "options": chosen}).encode()
    status, answer = post(server, body, "application/json")
    assert status in (200, 400), answer
    assert status == 200 or any(repr(name)[1:-1] in answer["message"] for name in chosen)


def test_the_worker_has_outlived_it_all(server: TorchServe) -> None:
    """Runs last: TorchServe's log tells of every worker that it had to start."""
    log = server.log_file.read_text(errors="replace")
    assert log.count("Worker cmdline") == 1
