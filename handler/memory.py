"""Memory: a bound for one piece of work, and how to recognise that memory ran out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import torch

__all__ = ["bounded_memory", "is_out_of_memory"]


@contextmanager
def bounded_memory(budget: int) -> Iterator[None]:
    """Let the process grow by at most `budget` bytes; beyond them, allocations fail.

    Libraries allocate the tables that a file announces before anyone can look at them: a few
    hundred bytes of an mp4 can ask for gigabytes. A failed allocation is an error of that file
    alone, while a machine that runs out of memory kills the worker.

    If several threads are inside, the bound of the first applies to all of them together. Only
    Linux bounds a process's data; elsewhere this does nothing.
    """
    _DATA.lower(budget)
    try:
        yield
    finally:
        _DATA.restore()


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on the accelerator or on the host."""
    # The CPU allocator raises a plain RuntimeError; FFmpeg says EAGAIN if one of its threads got no
    # memory for its stack.
    return isinstance(
        error, torch.cuda.OutOfMemoryError | MemoryError | av.error.BlockingIOError
    ) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


class _DataLimit:
    """The process's limit on private writable memory, lowered while someone is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._outer = (-1, -1)

    def lower(self, budget: int) -> None:
        with self._lock:
            if sys.platform == "linux" and self._inside == 0:
                import resource

                self._outer = resource.getrlimit(resource.RLIMIT_DATA)
                bound = _data_pages() * resource.getpagesize() + budget
                allowed = [limit for limit in self._outer if limit != resource.RLIM_INFINITY]
                resource.setrlimit(resource.RLIMIT_DATA, (min([bound, *allowed]), self._outer[1]))
            self._inside += 1  # last: only after the limit was set

    def restore(self) -> None:
        with self._lock:
            self._inside -= 1
            if sys.platform == "linux" and self._inside == 0:
                import resource

                resource.setrlimit(resource.RLIMIT_DATA, self._outer)


_DATA = _DataLimit()


def _data_pages() -> int:
    """This process's pages of private writable memory, as RLIMIT_DATA counts them."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
