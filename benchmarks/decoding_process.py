"""What decoding in a process of its own costs: `python -m benchmarks.decoding_process`.

Both ways take the same clips in turn, in one run; the ratio of the fastest is what counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
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
        rounds: measured readings of each.
        clips: how many of them, all when None.
    """
    decoder = Decoder()
    rows = []
    try:
        for name, clip in list(CLIPS.items())[:clips]:
            data = encode_pattern(*clip)
            ways: dict[str, Callable[[int], None]] = {
                "in the worker": partial(_read, read_clip, data),
                "in a process": partial(_read, decoder.read, data),
            }
            timings = interleave(ways, rounds).values()
            inside, outside = (min(timing.seconds) for timing in timings)
            row = {"clip": name, "worker_ms": 1000 * inside, "process_ms": 1000 * outside}
            rows.append({**row, "ratio": outside / inside})
    finally:
        decoder.close()
    return rows


def _read(read: ReadClip, data: bytes, _: int) -> None:
    read(data, Sampling(FRAMES), Framing(SIZE), Limits())


if __name__ == "__main__":
    for row in measure_decoding_process():
        print(json.dumps(row))
