"""What memory calls take, and what is free."""

from functools import partial
from pathlib import Path

import pytest
import torch

from videopure.purifier import memory

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak"),
]

CPU = torch.device("cpu")
MEGABYTE = 1_000_000


def take(megabytes: int) -> None:
    """Write to fresh memory, and give it back."""
    torch.ones(megabytes * MEGABYTE // 4)


def test_the_peak_is_what_was_taken_even_when_it_was_given_back() -> None:
    small, large = (memory.memory_taken(partial(take, n), CPU) for n in (100, 400))
    assert small is not None
    assert large is not None
    assert small == pytest.approx(100 * MEGABYTE, rel=0.2)
    assert large == pytest.approx(400 * MEGABYTE, rel=0.2)


def test_the_peak_of_the_process_is_no_lower_than_what_it_holds() -> None:
    held = torch.ones(300 * MEGABYTE // 4)
    assert memory.peak_memory(CPU) >= held.nbytes


def test_a_limit_of_the_container_counts(tmp_path: Path) -> None:
    free = memory.free_memory(CPU)
    assert free is not None
    assert free > MEGABYTE
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert memory._left_of_limit(tmp_path) == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_of_limit(tmp_path) is None
    assert memory._left_of_limit(tmp_path / "none") is None
