"""Time by stage, without making an accelerator wait."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["Stopwatch"]

Item = TypeVar("Item")


class Stopwatch:
    """Milliseconds by stage.

    On a GPU, events record the time and are read once at the end: waiting for it after every stage
    would leave it idle.

    Args:
        device: where the stages are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._milliseconds: dict[str, float] = {}
        self._noted: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        if self._device.type == "cuda":
            before = self._note()
            yield
            self._noted.append((stage, before, self._note()))
        else:
            start = time.perf_counter()
            yield
            self._add(stage, 1000 * (time.perf_counter() - start))

    def measure_each(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; the time spent on computing them is added to a stage."""
        source = iter(items)
        while True:
            with self.measure(stage):
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item

    @property
    def milliseconds(self) -> dict[str, float]:
        """Milliseconds spent in each stage so far; waits for a GPU."""
        if self._noted:
            torch.cuda.synchronize(self._device)
        for stage, before, after in self._noted:
            self._add(stage, before.elapsed_time(after))
        self._noted.clear()
        return dict(self._milliseconds)

    def _note(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        torch.cuda.current_stream(self._device).record_event(event)
        return event

    def _add(self, stage: str, milliseconds: float) -> None:
        self._milliseconds[stage] = self._milliseconds.get(stage, 0.0) + milliseconds
