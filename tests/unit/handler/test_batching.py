"""What is begun of a batch, by the time that its micro-batches took."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from videopure.handler.batching import ClipTask, Pace, answer_clips
from videopure.handler.errors import OutOfTimeError
from videopure.handler.requests import Options
from videopure.purifier import Verdict

pytestmark = pytest.mark.unit

SCORES = torch.tensor([0.6, 0.4])


class Told:
    """A defended recogniser that says how many seconds its answers took."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = iter(seconds)
        self.sizes: list[int] = []

    def parameters(self) -> Any:
        return iter([torch.zeros(1)])

    def answer(self, clips: torch.Tensor, **options: Any) -> Any:
        self.sizes.append(len(clips))
        verdicts = [Verdict(0, SCORES, (), 0, 1.0, SCORES, None)] * len(clips)
        return SimpleNamespace(verdicts=verdicts, timing_ms={"vote": 1000 * next(self.seconds)})


def tasks(count: int, steps: int = 0) -> list[ClipTask]:
    frames = torch.zeros(2, 3, 8, 8)
    return [ClipTask(f"id{i}", Options(), frames, None, steps=steps) for i in range(count)]


def late(told: Told, given: list[ClipTask], together: int, pace: Pace | None = None) -> list[bool]:
    """Which clips there was no time for, where there are 60 seconds."""
    result = answer_clips(told, given, together, time.monotonic() + 60, pace)
    errors = [outcome.error for outcome in result.outcomes]
    assert all(error is None or isinstance(error, OutOfTimeError) for error in errors)
    return [error is not None for error in errors]


def test_nothing_is_begun_that_takes_as_long_as_the_slowest_and_would_not_end() -> None:
    told = Told(100, 1, 1)
    assert late(told, tasks(3), together=1) == [False, True, True]
    assert late(Told(1, 100, 1), tasks(3), together=1) == [False, False, True]
    assert late(Told(1, 1, 1), tasks(3), together=1) == [False, False, False]


def test_what_is_too_large_for_the_time_left_is_halved() -> None:
    pace = Pace()
    pace.learn(seconds=20, work=1)
    told = Told(40, 40)
    assert late(told, tasks(4, steps=1), together=4, pace=pace) == [False, False, False, False]
    assert told.sizes == [2, 2]
    slow = Pace()
    slow.learn(seconds=100, work=1)
    assert late(Told(), tasks(2, steps=2), together=2, pace=slow) == [True, True]
    # The least work is tried where nothing was, so that the worker learns its pace anew.
    least = Pace(least=2)
    least.learn(seconds=100, work=1)
    tried = Told(1)
    assert late(tried, tasks(1, steps=2), together=2, pace=least) == [False]
    assert tried.sizes == [1]
