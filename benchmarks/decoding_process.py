"""The cost of decoding in a separate process: `python -m benchmarks.decoding_process`.

Both ways read the same clips alternately, in one run. For wall-clock time, the fastest runs are
compared; for CPU time of both processes, which other jobs hardly affect, the medians.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.decoding import CLIPS, FRAMES, SIZE, encode_pattern
from benchmarks.measure import interleave
from videopure.format.limits import Limits
from videopure.handler.decoder import Decoder, ReadClip
from videopure.handler.video import Sampling, read_clip
from videopure.purifier import Framing

__all__ = ["measure_decoding_process"]


def measure_decoding_process(rounds: int = 9, clips: int | None = None) -> list[dict[str, Any]]:
    """Milliseconds of both ways for each clip, and their ratio.

    Args:
        rounds: measured runs of each.
        clips: number of clips; all if None.
    """
    decoder = Decoder()
    rows = []
    try:
        for name, clip in list(CLIPS.items())[:clips]:
            data = encode_pattern(*clip)
            ways: dict[str, Callable[[int], Mapping[str, float]]] = {
                "worker": partial(_read, read_clip, data, decoder),
                "process": partial(_read, decoder.read, data, decoder),
            }
            timings = interleave(ways, rounds)
            row: dict[str, Any] = {"clip": name}
            for way, timing in timings.items():
                row[f"{way}_ms"] = 1000 * min(timing.seconds)
                row[f"{way}_cpu_ms"] = statistics.median(stage["cpu"] for stage in timing.stages)
            row["ratio"] = row["process_ms"] / row["worker_ms"]
            row["cpu_ratio"] = row["process_cpu_ms"] / row["worker_cpu_ms"]
            rows.append(row)
    finally:
        decoder.close()
    return rows


def _read(read: ReadClip, data: bytes, decoder: Decoder, _: int) -> Mapping[str, float]:
    before = _cpu_seconds(decoder)
    read(data, Sampling(FRAMES), Framing(SIZE), Limits())
    return {"cpu": 1000 * (_cpu_seconds(decoder) - before)}


def _cpu_seconds(decoder: Decoder) -> float:
    """CPU time of this process and of the decoding process, from Linux's per-process clocks."""
    assert decoder._starter is not None
    parent = decoder._starter.pid
    readers = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    others = (time.clock_gettime((~int(reader) << 3) | 2) for reader in readers)
    return time.process_time() + sum(others)


if __name__ == "__main__":
    for row in measure_decoding_process():
        print(json.dumps(row))
