"""How far a long purification is: counted in calls of the diffusion model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from videopure.cli import meter

pytestmark = pytest.mark.unit


def defended() -> Any:
    return SimpleNamespace(
        pipeline=SimpleNamespace(denoiser=torch.nn.Identity()),
        settings=SimpleNamespace(inversion_steps=2),
    )


@pytest.mark.parametrize(("seconds", "told"), [(30.0, True), (0.01, False)])
def test_the_first_call_tells_what_all_will_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: float, told: bool
) -> None:
    """100 frames in windows of 16 are 7, each of 6 calls: 42 calls."""
    clock = iter((0.0, 0.0, seconds))
    monkeypatch.setattr("time.monotonic", lambda: next(clock, seconds))
    models = defended()
    with meter.WorkMeter(models, 16) as work:
        work.frames_done(0, 100)
        models.pipeline.denoiser(torch.zeros(1))
    written = capsys.readouterr().err
    assert written.startswith("Purifying 100 frames in 7 windows of 16")
    assert ("7 windows of 16 frames will take about 21 minutes" in written) == told
    # A log, which shows no bar, gets a line for it: 41 of 42 calls of half a minute are left.
    assert ("Step 1 of 42, about 20.5 minutes left" in written) == told


def test_it_counts_calls_and_leaves_the_model_as_it_was() -> None:
    models = defended()
    with meter.WorkMeter(models, 16) as work:
        work.frames_done(0, 32)
        for _ in range(4):  # a method of fewer calls than was thought
            models.pipeline.denoiser(torch.zeros(1))
        work.frames_done(16, 32)
        (task,) = work._progress.tasks
        assert (task.completed, task.total) == (4, 8)
    assert not models.pipeline.denoiser._forward_hooks
