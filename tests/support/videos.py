"""Real video files, made on the spot."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

__all__ = ["encode", "encode_hevc", "frames"]


def frames(count: int = 8, height: int = 32, width: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth coloured frames uint8 [T, H, W, 3], each brighter than the one before."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, width)[None, :, None]
    y = np.linspace(0, 1, height)[:, None, None]
    base = 60 * x * rng.random(3) + 60 * y * rng.random(3)
    steps = np.linspace(20, 130, count)[:, None, None, None]
    return (base[None] + steps).astype(np.uint8)


def encode(
    pixels: np.ndarray,
    container: str = "mp4",
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int | Fraction = 8,
    movflags: str = "",
    **options: str,
) -> bytes:
    """A video file of frames uint8 [T, H, W, 3]; `options` are the encoder's."""
    if movflags:
        muxing = {"movflags": movflags}
        with tempfile.TemporaryDirectory() as folder:  # an index moved to the front is read again
            path = Path(folder) / "video"
            _write(str(path), pixels, container, codec, pix_fmt, fps, options, muxing)
            return path.read_bytes()
    buffer = io.BytesIO()
    _write(buffer, pixels, container, codec, pix_fmt, fps, options, {})
    return buffer.getvalue()


def _write(
    target: str | io.BytesIO,
    pixels: np.ndarray,
    container: str,
    codec: str,
    pix_fmt: str,
    fps: int | Fraction,
    options: dict[str, str],
    muxing: dict[str, str],
) -> None:
    with av.open(target, "w", format=container, options=muxing) as output:
        stream = output.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.time_base = 1 / Fraction(fps)
        for image in pixels:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def encode_hevc(pixels: np.ndarray) -> bytes:
    """An H.265 mp4, encoded in a process of its own.

    The x265 of the PyAV wheel may abort the process that frees it; decoding does not use it.
    """
    program = (
        "import io, os, sys\n"
        "import numpy as np\n"
        "from tests.support.videos import encode\n"
        "pixels = np.load(io.BytesIO(sys.stdin.buffer.read()))\n"
        "quiet = {'x265-params': 'log-level=0'}\n"
        "sys.stdout.buffer.write(encode(pixels, codec='libx265', **quiet))\n"
        "sys.stdout.buffer.flush()\n"
        "os._exit(0)\n"
    )
    array = io.BytesIO()
    np.save(array, pixels)
    run = subprocess.run(
        [sys.executable, "-c", program],
        input=array.getvalue(),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return run.stdout
