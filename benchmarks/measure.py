"""Measures time, and describes the machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

__all__ = ["Timing", "interleave", "machine", "matmul_rate"]


@dataclass
class Timing:
    """Repeated runs of one function.

    Args:
        seconds: wall-clock time.
        cpu_seconds: CPU time of all threads of this process, without that of other jobs.
        stages: wall-clock milliseconds of each stage, if the function reports them.
    """

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    stages: list[Mapping[str, float]] = field(default_factory=list)

    def fastest(self) -> float:
        """The least CPU time of a run, in seconds, divided by the number of threads.

        If all threads are busy, this is the wall-clock time on an idle machine.
        """
        return min(self.cpu_seconds) / torch.get_num_threads()

    def summary(self) -> dict[str, Any]:
        """Medians."""
        names = self.stages[0] if self.stages else ()
        return {
            "ms": 1000 * statistics.median(self.seconds),
            "cpu_ms": 1000 * statistics.median(self.cpu_seconds),
            "runs": len(self.seconds),
            "stages_ms": {n: statistics.median(s[n] for s in self.stages) for n in names},
        }


def interleave(
    things: Mapping[str, Callable[[int], Mapping[str, float] | None]], rounds: int
) -> dict[str, Timing]:
    """Time functions alternately, so that other work on the machine affects all of them equally.

    Args:
        things: functions that take the number of the round and return milliseconds by stage, or
            None. Each is called once more before the first round, unmeasured.
        rounds: measured calls of each.
    """
    timings = {name: Timing() for name in things}
    for thing in things.values():
        thing(0)
    for number in range(rounds):
        for name, thing in things.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            stages = thing(number)
            timings[name].cpu_seconds.append(time.process_time() - cpu_start)
            timings[name].seconds.append(time.perf_counter() - start)
            if stages is not None:
                timings[name].stages.append(stages)
    return timings


def matmul_rate(dtype: torch.dtype = torch.float32, size: int = 2048, runs: int = 5) -> float:
    """Floating-point operations per second of a large matrix product, the best of several runs."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    matrix = torch.randn(size, size, dtype=dtype, device=device)

    def product(_: int) -> None:
        matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()

    timing = interleave({"product": product}, runs)["product"]
    spent = min(timing.seconds) if device == "cuda" else timing.fastest()
    return 2 * size**3 / spent


def machine() -> dict[str, Any]:
    """The machine and the versions that the numbers were measured with."""
    return {
        "cpu": _cpu_model(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    model, family = named.get("model name", platform.processor()), named.get("cpu family", "?")
    return f"{model} (family {family}, model {named.get('model', '?')})"
