"""Batches that are made ahead, in threads, while the chip computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Ahead"]

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """The results of `make` for each step in turn, computed some steps ahead of their use.

    Each step's batch depends on its number alone, so that threads and resuming change nothing.

    Args:
        make: makes the batch of a step, given its number.
        total: number of steps.
        threads: threads that make batches; with 0 each is made when it is asked for.
    """

    def __init__(self, make: Callable[[int], Made], total: int, threads: int = 1) -> None:
        self._make, self._total, self._threads = make, total, threads
        self._pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="batches")
        self._made: dict[int, Future[Made]] = {}
        # Seconds that `take` waited for batches.
        self.waited = 0.0

    def take(self, step: int) -> Made:
        """The batch of a step; starts making those of the next steps."""
        start = time.perf_counter()
        try:
            if not self._threads:
                return self._make(step)
            for later in range(step, min(step + 2 * self._threads + 1, self._total)):
                if later not in self._made:
                    self._made[later] = self._pool.submit(self._make, later)
            return self._made.pop(step).result()
        finally:
            self.waited += time.perf_counter() - start

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)
