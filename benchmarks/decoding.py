"""The cost of reading a video on top of decoding it: the reader against PyAV, in one run."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import av
import numpy as np

from benchmarks.measure import interleave
from videopure.format.settings import Limits
from videopure.handler.video import read_clip
from videopure.purifier import Framing, prepare_clip, sample_frame_indices

__all__ = ["CLIPS", "FRAMES", "SIZE", "encode_pattern", "measure_decoding"]

FRAMES = 16  # sampled from each video
SIZE = (224, 224)
# Name: height, width, frames, container, encoder, frames per second.
CLIPS = {
    "H.264, 240p, 10 s": (240, 320, 300, "mp4", "libx264", 30),
    "H.264, 720p, 2 s": (720, 1280, 60, "mp4", "libx264", 30),
    "VP9, 240p, 4 s": (240, 320, 120, "webm", "libvpx-vp9", 30),
    "MPEG-2 broadcast, 576p, 4 s": (576, 720, 100, "mpegts", "mpeg2video", 25),
}


def measure_decoding(rounds: int, clips: int | None = None) -> list[dict[str, Any]]:
    """For some clips, the time of the reader and of the minimum with PyAV alone.

    The minimum is to count the packets, decode all frames, and prepare those that are sampled.

    Args:
        rounds: measured runs of each.
        clips: number of clips; all if None.
    """
    rows = []
    for name, clip in list(CLIPS.items())[:clips]:
        data = encode_pattern(*clip)
        ways: dict[str, Callable[[int], None]] = {
            "PyAV alone": lambda _, data=data: _least(data),  # type: ignore[misc]
            "the reader": lambda _, data=data: _read(data),  # type: ignore[misc]
        }
        timings = interleave(ways, rounds)
        least, ours = (min(timing.cpu_seconds) for timing in timings.values())
        row = {"clip": name, "bytes": len(data), "least_ms": 1000 * least, "ms": 1000 * ours}
        rows.append({**row, "ratio": ours / least})
    return rows


def _read(data: bytes) -> None:
    read_clip(data, FRAMES, Framing(SIZE), Limits())


def _least(data: bytes) -> None:
    with av.open(io.BytesIO(data)) as container:
        total = sum(1 for packet in container.demux(video=0) if packet.size > 0)
    wanted = set(sample_frame_indices(total, FRAMES))
    with av.open(io.BytesIO(data)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                pixels = frame.to_ndarray(format="rgb24", threads=1)
                prepare_clip(np.ascontiguousarray(pixels)[None], Framing(SIZE))


def encode_pattern(
    height: int, width: int, count: int, container: str, codec: str, rate: int
) -> bytes:
    """A video of a moving pattern, so that there is something to decode."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
    pattern = coarse.repeat(16, 0).repeat(16, 1)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *pattern.shape[:2], "yuv420p"
        for number in range(count):
            image = np.roll(pattern, (2 * number, 3 * number), (0, 1))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()
