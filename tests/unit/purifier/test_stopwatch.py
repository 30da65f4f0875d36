"""Time by stage, on a clock that the test moves."""

from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from videopure.purifier import stopwatch
from videopure.purifier.stopwatch import Stopwatch

pytestmark = pytest.mark.unit


class Clock:
    """Seconds, that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def test_only_the_making_of_the_items_counts(clock: Clock) -> None:
    def slowly() -> Iterator[int]:
        for item in (1, 2, 4):
            clock.now += item
            yield item
        clock.now += 8

    watch = Stopwatch(torch.device("cpu"))
    seen = []
    for item in watch.measure_each("make", slowly()):
        seen.append(item)
        with watch.measure("use"):
            clock.now += 100
    assert seen == [1, 2, 4]
    assert watch.milliseconds == {"make": 15_000, "use": 300_000}


def test_items_that_nobody_asks_for_are_not_made(clock: Clock) -> None:
    made = []
    watch = Stopwatch(torch.device("cpu"))
    items = watch.measure_each("make", (made.append(n) or n for n in range(9)))  # type: ignore[func-returns-value]
    assert list(islice(items, 2)) == [0, 1]
    assert made == [0, 1]
