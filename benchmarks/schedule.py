"""The purifier against the published schedule, side by side on one clip at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.counting import count_flops
from benchmarks.measure import interleave
from benchmarks.published import PublishedSchedule
from benchmarks.setups import Setup
from videopure.handler.micro_batches import peak_memory
from videopure.purifier import DefendedRecogniser

__all__ = ["agreement", "compare_schedules"]


def compare_schedules(setup: Setup, rounds: int) -> dict[str, Any]:
    """Time, memory and counted work of the published schedule and of ours, and their ratios."""
    clips = setup.clips.split(1)
    ways: dict[str, Callable[[Tensor], Mapping[str, float]]] = {
        "published": partial(_published, setup.stock),
        "published, our modules": partial(_published, setup.same),
        "exact": partial(_ours, setup.defended),
        "fast": partial(_ours, setup.with_settings(speed="fast")),
    }

    def on_clip(way: Callable[[Tensor], Mapping[str, float]], number: int) -> Mapping[str, float]:
        return way(clips[number % len(clips)])

    timings = interleave({name: partial(on_clip, way) for name, way in ways.items()}, rounds)
    rows = {name: timing.summary() for name, timing in timings.items()}
    for name, way in ways.items():
        counted: list[int] = []

        def count(way: Callable[..., object] = way, counted: list[int] = counted) -> None:
            counted.append(count_flops(partial(way, clips[0])))

        rows[name]["peak_mb"] = _megabytes(peak_memory(count, clips[0].device))
        rows[name]["gflop"] = counted[0] / 1e9
        for key in ("ms", "cpu_ms", "gflop"):
            rows[name][f"{key}_ratio"] = rows["published"][key] / rows[name][key]
    return {"setup": setup.name, "agreement": agreement(setup), "ways": rows}


def agreement(setup: Setup) -> dict[str, Any]:
    """Whether the published schedule and ours give one answer on every clip."""
    ours = setup.defended.answer(setup.clips, votes="early").verdicts
    full = setup.defended.answer(setup.clips, votes="full").verdicts
    theirs = [setup.stock.answer(clip) for clip in setup.clips.split(1)]
    settings = setup.defended.settings
    latents: Tensor
    _, latents, _ = setup.defended.pipeline(
        setup.clips,
        inversion_steps=settings.inversion_steps,
        guidance_reference=settings.guidance_reference,
        output_type="latent",
        return_dict=False,
    )
    apart = (latents - torch.stack([answer.latents for answer in theirs])).abs()
    return {
        "clips": len(theirs),
        "same_labels": sum(a.label_id == b.label_id for a, b in zip(ours, theirs, strict=True)),
        "same_votes": sum(
            [vote.label_id for vote in a.votes] == b.labels
            for a, b in zip(full, theirs, strict=True)
        ),
        "latents_mean_difference": float(apart.mean()),
        "latents_beyond_5e-4": float((apart > 5e-4).double().mean()),
    }


def _published(schedule: PublishedSchedule, clip: Tensor) -> Mapping[str, float]:
    return schedule.answer(clip).timing_ms


def _ours(defended: DefendedRecogniser, clip: Tensor) -> Mapping[str, float]:
    return defended.answer(clip).timing_ms


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / 1e6
