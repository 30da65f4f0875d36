"""The purifier against the published schedule, side by side on one clip at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.counting import count_flops
from benchmarks.measure import interleave
from benchmarks.setups import Setup

__all__ = ["WAYS", "agreement", "compare_schedules"]

# Functions that answer clips [B, T, 3, H, W] and return milliseconds by stage; the published
# schedule takes one clip only.
WAYS: dict[str, Callable[[Setup, Tensor], Mapping[str, float]]] = {
    "published": lambda setup, clips: setup.stock.answer(clips).timing_ms,
    "published, our modules": lambda setup, clips: setup.same.answer(clips).timing_ms,
    "exact": lambda setup, clips: setup.defended.answer(clips).timing_ms,
    "fast": lambda setup, clips: setup.with_settings(speed="fast").answer(clips).timing_ms,
}


def compare_schedules(setup: Setup, rounds: int) -> dict[str, Any]:
    """Time and counted work of the published schedule and of ours, and their ratios."""
    clips = setup.clips.split(1)

    def on_clip(name: str, number: int) -> Mapping[str, float]:
        return WAYS[name](setup, clips[number % len(clips)])

    timings = interleave({name: partial(on_clip, name) for name in WAYS}, rounds)
    rows = {name: timing.summary() for name, timing in timings.items()}
    for name, way in WAYS.items():
        rows[name]["gflop"] = count_flops(partial(way, setup, clips[0])) / 1e9
        for key in ("ms", "cpu_ms", "gflop"):
            rows[name][f"{key}_ratio"] = rows["published"][key] / rows[name][key]
    return {"setup": setup.name, "agreement": agreement(setup), "ways": rows}


def agreement(setup: Setup) -> dict[str, Any]:
    """How well the published schedule and ours agree."""
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
