"""The bound on memory holds while it should, and only then."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from videopure.handler.memory import bounded_memory

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's data"),
]

MEBIBYTE = 1024**2


def limits() -> tuple[int, int]:
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)


def test_what_exceeds_the_budget_fails_and_the_limit_is_lifted_afterwards() -> None:
    before = limits()
    with bounded_memory(64 * MEBIBYTE):
        assert len(bytearray(16 * MEBIBYTE)) == 16 * MEBIBYTE
        with pytest.raises(MemoryError):
            bytearray(256 * MEBIBYTE)
    assert limits() == before
    assert len(bytearray(256 * MEBIBYTE)) == 256 * MEBIBYTE


def test_threads_share_one_bound_and_the_last_one_lifts_it() -> None:
    before = limits()
    together = Barrier(4, timeout=60)

    def work(_: int) -> int:
        with bounded_memory(64 * MEBIBYTE):
            together.wait()
            inside = limits()[0]
            together.wait()
            return inside

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(work, range(4)))
    assert len(found) == 1
    assert found != {before[0]}
    assert limits() == before


def test_the_limit_is_lifted_after_an_error() -> None:
    before = limits()
    with pytest.raises(ValueError, match="mine"), bounded_memory(MEBIBYTE):
        raise ValueError("mine")
    assert limits() == before


def test_a_limit_that_could_not_be_set_keeps_no_later_one_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import resource

    def refuse(*_: object) -> None:
        raise OSError("not now")

    with monkeypatch.context() as once:
        once.setattr(resource, "setrlimit", refuse)
        with pytest.raises(OSError, match="not now"), bounded_memory(MEBIBYTE):
            pass
    before = limits()
    with bounded_memory(64 * MEBIBYTE):
        assert limits() != before
    assert limits() == before
