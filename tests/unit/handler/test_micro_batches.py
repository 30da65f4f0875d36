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


@pytest.mark.extended
def test_clips_share_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batches, "free_memory", lambda device: 2000 * MEGABYTE)
    assert 7 <= micro_batches.clips_that_fit(lambda: take(120), CPU) <= 9
    # One is tried even where it may not fit: the request is then answered 507.
    assert micro_batches.clips_that_fit(lambda: take(1100), CPU) == 1
    assert micro_batches.clips_that_fit(lambda: take(1), CPU) <= micro_batches.MOST


def test_where_nothing_can_be_told_the_default_stands(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(micro_batches, "free_memory", lambda device: None)
    assert micro_batches.clips_that_fit(lambda: take(1), CPU) == 4
    assert "Cannot tell how much memory is free" in caplog.text
