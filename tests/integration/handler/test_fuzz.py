"""A slice of `python -m tests.fuzz.campaign`, which sends thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuzz.campaign import SETTINGS, run
from tests.support.fuzzing import Sent, fuzzed_file, fuzzed_request
from tests.support.handling import handler_of
from videopure.handler.torchserve import TorchServeHandler

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def handler(
    tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TorchServeHandler]:
    with handler_of(tiny_archive, tmp_path_factory.mktemp("fuzz"), SETTINGS) as running:
        yield running


@pytest.mark.parametrize(
    ("make", "seen"),
    [(fuzzed_request, {200, 400, 403, 415, 422}), (fuzzed_file, {200, 413, 415, 422})],
)
def test_odd_requests_and_files_get_documented_answers(
    handler: TorchServeHandler, make: Callable[[int, int], Sent], seen: set[int]
) -> None:
    told = run(handler, make, seed=1, start=0, count=150)
    assert told["faults"] == []
    assert told["cases"] == 150
    assert told["statuses"].keys() >= seen


def test_a_fault_names_its_case(
    handler: TorchServeHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is the same whenever it is made."""
    assert handler.service is not None
    monkeypatch.setattr(handler.service.intake, "settings", None)
    (fault,) = run(handler, fuzzed_file, seed=1, start=7, count=1)["faults"]
    assert fault.startswith("fuzzed_file(7, 1): ")
    assert "InternalError" in fault
    assert fuzzed_request(3, 1) == fuzzed_request(3, 1) != fuzzed_request(3, 2)
