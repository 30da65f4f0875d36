"""Frames that show their own number, so that what was taken of a video can be read off."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from torch import Tensor

__all__ = ["NUMBERED_SIZE", "encoded_packets", "mux", "numbered_frames", "numbers"]

NUMBERED_SIZE = (48, 64)  # height, width
_BITS = 8
_WIDE = NUMBERED_SIZE[1] // _BITS


def numbered_frames(count: int, first: int = 0) -> np.ndarray:
    """Frames uint8 [T, 48, 64, 3]: grey above, the number as eight blocks below.

    The lowest bit is on the left; bright is 1.
    """
    pixels = np.full((count, *NUMBERED_SIZE, 3), 90, np.uint8)
    pixels[:, 4:20, 4:20] = (200, 60, 40)  # so that it is neither turned nor mirrored
    for index in range(count):
        for bit in range(_BITS):
            bright = (first + index) >> bit & 1
            pixels[index, 32:, bit * _WIDE : (bit + 1) * _WIDE] = 235 if bright else 16
    return pixels


def numbers(clip: Tensor) -> list[int]:
    """The numbers on frames [T, 3, 48, 64] in 0..1.

    Raises:
        AssertionError: if a block is neither bright nor dark.
    """
    blocks = clip[:, :, 36:46].mean((1, 2)).reshape(len(clip), _BITS, _WIDE)[:, :, 2:-2].mean(2)
    assert ((blocks < 0.3) | (blocks > 0.7)).all(), blocks
    return [int(sum(1 << bit for bit in range(_BITS) if row[bit] > 0.5)) for row in blocks]


def encoded_packets(
    pixels: np.ndarray,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 10,
    **options: str,
) -> tuple[list[bytes], Any]:
    """The packets of an encoder in the order of decoding, and the stream that made them."""
    output = av.open(io.BytesIO(), "w", format="null")
    stream = output.add_stream(codec, rate=fps, options=options)
    stream.height, stream.width = pixels.shape[1:3]
    stream.pix_fmt = pix_fmt
    packets = []
    for image in pixels:
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        packets += [bytes(packet) for packet in stream.encode(frame)]
    packets += [bytes(packet) for packet in stream.encode(None)]
    return packets, stream


def mux(
    packets: Sequence[bytes],
    container: str,
    codec: str,
    pix_fmt: str = "yuv420p",
    fps: int = 10,
    pts: Callable[[int], int] = lambda number: number,
    muxing: dict[str, str] | None = None,
    extradata: bytes | None = None,
) -> bytes:
    """A file of packets as they are, all of them key frames to the muxer.

    Args:
        pts: when the packet of a number is shown, in frames.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=muxing or {}) as output:
        stream = output.add_stream(codec, rate=fps)
        stream.height, stream.width = NUMBERED_SIZE
        stream.pix_fmt = pix_fmt
        if extradata is not None:
            stream.codec_context.extradata = extradata
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, fps)
            packet.pts = packet.dts = pts(number)
            packet.is_keyframe = True
            output.mux(packet)
    return buffer.getvalue()
