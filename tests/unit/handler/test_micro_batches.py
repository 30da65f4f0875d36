"""How many clips are purified together, from what one takes."""

from pathlib import Path

import pytest
import torch

from videopure.handler import micro_batches

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
    small, large = (micro_batches.peak_memory(lambda n=n: take(n), CPU) for n in (100, 400))
    assert small is not None
    assert large is not None
    assert small == pytest.approx(100 * MEGABYTE, rel=0.2)
    assert large == pytest.approx(400 * MEGABYTE, rel=0.2)


def test_clips_share_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batches, "free_memory", lambda device: 2000 * MEGABYTE)
    assert 7 <= micro_batches.clips_that_fit(lambda: take(120), CPU) <= 9
    # One is tried even where it may not fit: the request is then answered 507.
    assert micro_batches.clips_that_fit(lambda: take(1100), CPU) == 1
    assert micro_batches.clips_that_fit(lambda: take(1), CPU) <= micro_batches.MOST


def test_a_limit_of_the_container_counts(tmp_path: Path) -> None:
    free = micro_batches.free_memory(CPU)
    assert free is not None
    assert free > MEGABYTE
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert micro_batches._left_of_limit(tmp_path) == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert micro_batches._left_of_limit(tmp_path) is None
    assert micro_batches._left_of_limit(tmp_path / "none") is None


def test_where_nothing_can_be_told_the_default_stands(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(micro_batches, "free_memory", lambda device: None)
    assert micro_batches.clips_that_fit(lambda: take(1), CPU) == 4
    assert "Cannot tell how much memory is free" in caplog.text
