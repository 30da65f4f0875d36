"""How time grows with frames, pixels, batch and steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.counting import count_flops
from benchmarks.measure import interleave
from benchmarks.setups import Setup

__all__ = ["exponent", "measure_scaling", "purify_random"]

# The sizes of each quantity that is varied; all others stay as in `BASE`.
BASE = {"frames": 16, "side": 64, "batch": 1, "steps": 2}
SIZES = {
    "frames": (8, 16, 32),
    "side": (32, 64, 128),
    "batch": (1, 2, 4, 8),
    "steps": (1, 2, 4, 8),
}
# Pixels grow with the square of the side.
POWERS = {"side": 2}


def measure_scaling(setup: Setup, rounds: int, largest: int | None = None) -> dict[str, Any]:
    """CPU time and counted work of purifying random clips, and their exponents.

    Args:
        setup: its pipeline purifies; all candidates are decoded, no recogniser runs.
        rounds: measured calls of each size.
        largest: number of sizes that are measured, from the smallest; all if None.
    """
    result: dict[str, Any] = {"setup": setup.name, "base": BASE, "grows": {}}
    for name, sizes in SIZES.items():
        taken = sizes[:largest]
        calls = {size: partial(purify_random, setup, **{**BASE, name: size}) for size in taken}
        timings = interleave({str(s): _ignore_round(c) for s, c in calls.items()}, rounds)
        seconds = [timings[str(size)].fastest() for size in taken]
        work = [count_flops(call) for call in calls.values()]
        amounts = [float(size) ** POWERS.get(name, 1) for size in taken]
        result["grows"][name] = {
            "sizes": list(taken),
            "ms": [1000 * s for s in seconds],
            "gflop": [flops / 1e9 for flops in work],
            "exponent": exponent(amounts, seconds),
            "exponent_of_work": exponent(amounts, work),
            "cost_per_unit": [
                s / a / (seconds[0] / amounts[0]) for s, a in zip(seconds, amounts, strict=True)
            ],
        }
    return result


def purify_random(setup: Setup, frames: int, side: int, batch: int, steps: int) -> None:
    """Purify random clips and decode every candidate; `steps` each way."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.rand(batch, frames, 3, side, side, generator=generator)
    setup.defended.pipeline(clips, inversion_steps=steps - 1)


def exponent(amounts: list[float], costs: list[float] | list[int]) -> float:
    """The p of cost = c * amount**p, fitted by least squares of the logarithms."""
    x, y = [math.log(a) for a in amounts], [math.log(c) for c in costs]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    along = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return along / sum((a - mean_x) ** 2 for a in x)


def _ignore_round(call: Callable[[], None]) -> Callable[[int], None]:
    return lambda _: call()
