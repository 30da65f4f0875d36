"""How close each stage comes to the machine's limit: its operation rate against matmul's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.counting import count_flops
from benchmarks.measure import interleave, matmul_rate
from benchmarks.setups import Setup
from videopure.purifier import DefendedRecogniser

__all__ = ["measure_limits", "top_operators"]


def measure_limits(setup: Setup, rounds: int) -> dict[str, Any]:
    """For each stage: counted work, time, and rate as a share of that of a matrix product."""
    stages = _stages(setup)
    timings = interleave({name: _quietly(stage) for name, stage in stages.items()}, rounds)
    limit = matmul_rate()
    rows = {}
    for name, stage in stages.items():
        seconds = timings[name].fastest()
        flops = count_flops(stage)
        rows[name] = {
            "gflop": flops / 1e9,
            "ms": 1000 * seconds,
            "gflops": flops / 1e9 / seconds,
            "share_of_matmul": flops / seconds / limit,
        }
    return {"setup": setup.name, "matmul_gflops": limit / 1e9, "stages": rows}


def top_operators(setup: Setup, count: int = 8) -> dict[str, list[dict[str, Any]]]:
    """The operators that take most of an answer's time, for the published way and for ours."""
    clip = setup.clips[:1]

    def ours(defended: DefendedRecogniser) -> Callable[[], object]:
        return lambda: defended.answer(clip)

    ways = {"published": lambda: setup.stock.answer(clip), "exact": ours(setup.defended)}
    return {name: _profile(way, count) for name, way in ways.items()}


def _profile(call: Callable[[], object], count: int) -> list[dict[str, Any]]:
    call()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        call()
    averages = recorded.key_averages()
    total = sum(event.self_cpu_time_total for event in averages)
    ordered = sorted(averages, key=lambda event: -event.self_cpu_time_total)[:count]
    return [
        {
            "operator": event.key,
            "share": event.self_cpu_time_total / total,
            "ms": event.self_cpu_time_total / 1000,
            "calls": event.count,
        }
        for event in ordered
    ]


@torch.no_grad()
def _stages(setup: Setup) -> dict[str, Callable[[], object]]:
    """The stages of an answer to one clip, each run once by itself."""
    defended, clip = setup.defended, setup.clips[:1]
    pipeline, settings = defended.pipeline, defended.settings
    encoded = pipeline.encode(clip)
    timestep = pipeline.schedule(settings.inversion_steps).timesteps_up[-1]
    stages: dict[str, Callable[[], object]] = {
        "encode": lambda: pipeline.encode(clip),
        "UNet call": lambda: pipeline.predict_noise(encoded, timestep),
        "decode": lambda: pipeline.decode(encoded),
        "recogniser": lambda: defended.recogniser.logits(clip),
        "flow": lambda: pipeline.estimate_flow(clip),
    }
    return {name: torch.no_grad()(stage) for name, stage in stages.items()}


def _quietly(stage: Callable[[], object]) -> Callable[[int], None]:
    def run(_: int) -> None:
        stage()

    return run
