"""`python -m benchmarks`: measure, and write results and plots.

What is compared is measured alternately in one run, so that other work on the machine affects all
of it equally. CPU time is given beside wall-clock time, which other jobs lengthen.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers.utils.logging import disable_progress_bar
from rich.console import Console

from benchmarks.alternatives import compare_alternatives
from benchmarks.decoding import measure_decoding
from benchmarks.limits import measure_limits, top_operators
from benchmarks.measure import machine
from benchmarks.memory import measure_memory
from benchmarks.plots import save_plot
from benchmarks.report import report
from benchmarks.scaling import measure_scaling
from benchmarks.schedule import compare_schedules
from benchmarks.served import measure_served
from benchmarks.setups import Setup, demo, text_to_video
from benchmarks.shortcuts import compare_shortcuts

console = Console(stderr=True)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Args:
        rounds: repetitions of every measurement.
        frames, side: size of the clips of the text-to-video layout.
        sizes: number of sizes in the scaling benchmark; all if None.
        together: numbers of clips whose memory is measured together.
        clients, batch_sizes, requests: see `measure_served`.
    """

    rounds: int
    frames: int
    side: int
    sizes: int | None
    together: tuple[int, ...]
    clients: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    requests: int

    def setups(self) -> list[Setup]:
        """The models that are measured."""
        return [demo(), text_to_video(self.frames, self.side, clips=1)]


DEFAULT = Size(3, 16, 128, None, (1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4, 8), 24)
QUICK = Size(1, 4, 64, 2, (1, 2), (1, 2), (1, 2), 2)


def _schedule(size: Size) -> Any:
    return [compare_schedules(setup, size.rounds) for setup in size.setups()]


def _limits(size: Size) -> Any:
    setups = size.setups()
    measured = [measure_limits(setup, size.rounds) for setup in setups]
    return [{**measured[0], "operators": top_operators(setups[0])}, *measured[1:]]


def _scaling(size: Size) -> Any:
    return measure_scaling(demo(), size.rounds, size.sizes)


def _memory(size: Size) -> Any:
    layout = {"frames": size.frames, "size": size.side}
    return measure_memory({"demo": {}, "text-to-video": {**layout, "clips": 1}}, size.together)


def _served(size: Size) -> Any:
    return measure_served(size.clients, size.batch_sizes, size.requests, torch.get_num_threads())


def _shortcuts(size: Size) -> Any:
    return compare_shortcuts(demo(), size.rounds)


def _alternatives(size: Size) -> Any:
    return compare_alternatives(demo(), size.rounds)


def _decoding(size: Size) -> Any:
    return measure_decoding(3 * size.rounds, size.sizes)


PARTS: dict[str, Callable[[Size], Any]] = {
    "schedule": _schedule,
    "limits": _limits,
    "scaling": _scaling,
    "memory": _memory,
    "shortcuts": _shortcuts,
    "served": _served,
    "alternatives": _alternatives,
    "decoding": _decoding,
}

Parts = Annotated[
    list[str] | None, typer.Argument(help=f"Some of {', '.join(PARTS)}; all by default.")
]
Quick = Annotated[bool, typer.Option(help="Only check that everything runs.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of torch; its own by default.")]


def main(
    parts: Parts = None,
    quick: Quick = False,
    out: Out = Path("build/benchmarks"),
    threads: Threads = None,
) -> None:
    """Measure parts of the benchmark; each writes NAME.json, .md and .png."""
    for part in parts or ():
        if part not in PARTS:
            raise typer.BadParameter(f"there is no {part!r}; there are {', '.join(PARTS)}")
    if threads is not None:
        torch.set_num_threads(threads)
    disable_progress_bar()
    out.mkdir(parents=True, exist_ok=True)
    for part in parts or PARTS:
        start, cpu = time.perf_counter(), time.process_time()
        with console.status(f"Measuring {part}"):
            result = PARTS[part](QUICK if quick else DEFAULT)
        spent = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
        about = {**machine(), "load": os.getloadavg()[0], "took": spent}
        text = json.dumps({"machine": about, "result": result}, indent=1)
        (out / f"{part}.json").write_text(f"{text}\n", encoding="utf-8")
        save_plot(part, result, out / f"{part}.png")
        (out / f"{part}.md").write_text(report(part, result), encoding="utf-8")
        console.print(f"{part}: {out / part}.json, .md and .png, {spent['cpu_s']:.0f} CPU seconds")


if __name__ == "__main__":
    typer.run(main)
