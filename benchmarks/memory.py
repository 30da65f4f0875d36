"""Peak memory of answers, each measured in a new process.

In a process that has answered before, the heap keeps the memory of earlier answers, and the next
one seems to need none.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks.schedule import WAYS
from benchmarks.setups import SETUPS, SetupName
from videopure.purifier.memory import memory_taken

__all__ = ["Load", "measure_memory", "peak_alone"]


@dataclass(frozen=True)
class Load:
    """The work of one process.

    Args:
        setup: name of the models.
        arguments: of the function that makes them.
        way: one of `benchmarks.schedule.WAYS`.
        clips: number of clips that are answered together.
        threads: threads of torch.
    """

    setup: SetupName
    arguments: dict[str, Any]
    way: str
    clips: int
    threads: int


def measure_memory(
    arguments: dict[SetupName, dict[str, Any]], batches: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Megabytes for one clip in every way, and for several clips together in exact mode."""
    threads = torch.get_num_threads()
    measured = []
    for setup, given in arguments.items():
        ways = {way: _megabytes(Load(setup, given, way, 1, threads)) for way in WAYS}
        grown = {}
        for clips in batches:
            load = Load(setup, {**given, "clips": clips}, "exact", clips, threads)
            grown[clips] = ways["exact"] if clips == 1 else _megabytes(load)
        measured.append({"setup": SETUPS[setup](**given).name, "ways": ways, "batches": grown})
    return measured


def _megabytes(load: Load) -> float | None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        peak = pool.submit(peak_alone, load).result()
    return None if peak is None else peak / 1e6


def peak_alone(load: Load) -> int | None:
    """Bytes on top of the loaded models; None if the system does not report them."""
    torch.set_num_threads(load.threads)
    setup = SETUPS[load.setup](**load.arguments)
    clips = setup.clips[: load.clips]
    return memory_taken(partial(WAYS[load.way], setup, clips), clips.device)
