"""Alternatives to VideoPure, on the same clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import interleave
from benchmarks.setups import Setup
from videopure.evaluation.defences.filters import h264

__all__ = ["compare_alternatives"]


def compare_alternatives(setup: Setup, rounds: int) -> dict[str, Any]:
    """Time for one clip with VideoPure, and with defences that are cheaper or better known."""
    recogniser = setup.defended.recogniser
    fast = setup.with_settings(speed="fast")

    def h264_first(clip: Tensor) -> None:
        recogniser.logits(h264(clip))

    ways: dict[str, Callable[[Tensor], object]] = {
        "bare recogniser": recogniser.logits,
        "H.264 crf 35": h264_first,
        "VideoPure, fast": fast.answer,
        "VideoPure, exact": setup.defended.answer,
        "DDPM (DiffPure)": lambda clip: setup.defended.answer(clip, method="ddpm", seeds=[0]),
    }
    timings = interleave({name: _on_clip(way, setup) for name, way in ways.items()}, rounds)
    rows = {name: timing.summary() for name, timing in timings.items()}
    for row in rows.values():
        row["times_bare"] = row["cpu_ms"] / rows["bare recogniser"]["cpu_ms"]
    return {"setup": setup.name, "ways": rows}


def _on_clip(way: Callable[[Tensor], object], setup: Setup) -> Callable[[int], None]:
    clips = setup.clips.split(1)

    def run(number: int) -> None:
        with torch.no_grad():
            way(clips[number % len(clips)])

    return run
