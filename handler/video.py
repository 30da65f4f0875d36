"""Decoding of a video in memory to the clip that the recogniser takes."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
import numpy as np
import torch
from torch import Tensor

from videopure.format.settings import Limits
from videopure.handler.errors import NotAVideoError, TooLargeError, UnusableVideoError
from videopure.handler.memory import bounded_memory, is_out_of_memory
from videopure.purifier import Framing, prepare_clip, sample_frame_indices
from videopure.wire.schemas import VideoInfo

__all__ = ["Clip", "read_clip"]

# Self-contained containers only: playlist formats (HLS, DASH, concat, image sequences) would let a
# request make the server open other files and addresses.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,"
    "h264,hevc,m4v,ivf,mxf,nut"
)
_OPEN_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}

# QuickTime's compressed movie header, which nobody writes any more: it may unpack to gigabytes.
_PACKED_HEADER = re.compile(rb"cmov.{4}dcom", re.DOTALL)

# (offset, bytes) that mark a video file; one that cannot be opened all the same is damaged.
_SIGNATURES = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"RIFF"),
    (0, b"GIF8"),
    (0, b"FLV\x01"),
    (0, b"OggS"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"\x30\x26\xb2\x75"),
)
_SMALLEST_SIDE = 8
# Clocks of containers are coarse.
_RATE_TOLERANCE = 0.2


@dataclass(frozen=True, eq=False)
class Clip:
    """The sampled frames, float32 [T, 3, H, W] in 0..1, and where they come from."""

    frames: Tensor
    info: VideoInfo
    warnings: list[str]


def read_clip(
    data: bytes, num_frames: int, framing: Framing | tuple[int, int], limits: Limits
) -> Clip:
    """Decode a video and keep `num_frames` frames spread evenly over it.

    Frames are scaled and cropped as they are decoded, so that memory does not grow with the
    video's size. Nothing outside `data` is opened.

    Args:
        data: the file.
        num_frames: frames to sample; see `sample_frame_indices`.
        framing: of the clip, or its (height, width); see `prepare_clip`.
        limits: refused beyond them, from the header where it tells.

    Raises:
        NotAVideoError, UnusableVideoError, TooLargeError: saying why.
    """
    if not data:
        raise UnusableVideoError("the video is empty: the request body holds 0 bytes")
    _check("bytes", len(data), limits.max_bytes)
    framing = framing if isinstance(framing, Framing) else Framing(framing)
    try:
        with bounded_memory(limits.max_decode_memory):
            return _read(data, num_frames, framing, limits)
    except (MemoryError, RuntimeError, av.error.BlockingIOError) as error:
        if not is_out_of_memory(error):
            raise
        raise TooLargeError(
            f"decoding the video takes more memory than the {limits.max_decode_memory} bytes "
            "allowed"
        ) from error


def _read(data: bytes, num_frames: int, framing: Framing, limits: Limits) -> Clip:
    deadline = time.monotonic() + limits.max_decode_seconds
    with _open(data, limits) as (container, stream):
        _check_header(container, stream, limits)
        announced = stream.frames
        packets, total, seconds = _count_frames(container, stream, limits, deadline)
    if total == 0:
        raise UnusableVideoError("the video is empty: its video stream holds no frames")
    # Headers may be silent, or say less than the frames' own times.
    _check("seconds", seconds or 0.0, limits.max_seconds)
    indices = sample_frame_indices(total, num_frames, framing.sampling)
    with _open(data, limits) as (container, stream):
        fps = _frame_rate(stream, total, seconds)
        kept, decoded, size = _decode(container, stream, set(indices), framing, limits, deadline)
    # Missing is what the header announces and the file lacks, and what cannot be decoded.
    expected = total + max(0, announced - packets)
    if decoded * 10 < expected * 9:
        raise UnusableVideoError(
            f"the video is damaged or cut short: {decoded} of {expected} frames could be decoded"
        )
    warnings = []
    if decoded < expected:
        warnings.append(f"{expected - decoded} of {expected} frames could not be decoded")
        # Frames that decoders drop at the end are replaced by the last one there is.
        indices = [min(index, decoded - 1) for index in indices]
    if total < num_frames:
        warnings.append(
            f"the video has {total} frames and {num_frames} are looked at: frames are repeated "
            "evenly"
        )
    last = kept[max(kept)]
    frames = torch.stack([kept.get(index, last) for index in indices])
    duration = decoded / fps if fps else None
    info = VideoInfo(
        frames=decoded,
        fps=fps,
        duration_s=duration,
        width=size[0],
        height=size[1],
        frame_indices=indices,
    )
    return Clip(frames, info, warnings)


@contextmanager
def _open(
    data: bytes, limits: Limits
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video in memory; faults of the file, while open too, become request errors."""
    known = any(data[at : at + len(mark)] == mark for at, mark in _SIGNATURES)
    opened = False
    # Opening decodes a frame where the header does not tell what it is like.
    options = {**_OPEN_OPTIONS, "max_pixels": str(limits.max_pixels)}
    if _PACKED_HEADER.search(data):
        raise NotAVideoError("the file is a QuickTime movie with a compressed header")
    try:
        # Old cameras write titles in other encodings than UTF-8: `metadata_errors` reads them all.
        with av.open(
            io.BytesIO(data), mode="r", options=options, metadata_errors="replace"
        ) as container:
            opened = True
            yield container, _video_stream(container)
    except av.error.FFmpegError as error:
        if is_out_of_memory(error):
            raise
        if opened or known:
            raise UnusableVideoError(
                f"the video is damaged or cut short and cannot be decoded ({error.strerror})"
            ) from error
        raise NotAVideoError(
            f"the {len(data)} bytes sent are no video of a supported container "
            "(mp4, mov, webm, mkv, avi, gif, mpeg, flv, ogg, ...)"
        ) from error


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first stream that moves: the cover picture of a song is no video."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise NotAVideoError(f"the {container.format.name} file has no video stream")
    if streams[0].codec_context is None:
        raise UnusableVideoError("the video's codec is unknown, or its header is damaged")
    return streams[0]


def _check(what: str, value: float, limit: float) -> None:
    if value > limit:
        shown = f"{value:d}" if isinstance(value, int) else f"{value:g}"
        raise TooLargeError(f"the video has {shown} {what}, more than the {limit} allowed")


def _check_header(
    container: av.container.InputContainer, stream: av.VideoStream, limits: Limits
) -> None:
    """Refuse from the header what is too large, before anything is decoded."""
    width, height = stream.codec_context.width, stream.codec_context.height
    _check("pixels a frame", width * height, limits.max_pixels)
    _check("frames", stream.frames, limits.max_frames)
    if container.duration is not None:
        _check("seconds", container.duration / av.time_base, limits.max_seconds)


def _count_frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    limits: Limits,
    deadline: float,
) -> tuple[int, int, float | None]:
    """Packets of the stream, how many of them are shown and how long, without decoding them.

    Headers may lie or be silent. Packets that are not shown are what an edit list cuts away:
    phones trim videos that way.
    """
    packets = shown = 0
    shown_for: dict[int, int] = {}  # by the time at which a frame begins
    for packet in container.demux(stream):
        if packet.size > 0:
            packets += 1
            if not packet.is_discard:
                shown += 1
                if packet.pts is not None:
                    shown_for[packet.pts] = packet.duration or 0
        _check("frames", packets, limits.max_frames)
        _check_time(deadline, limits)
    if len(shown_for) < 2 or stream.time_base is None:
        return packets, shown, None
    first, last = min(shown_for), max(shown_for)
    # Some containers do not say how long the last frame is shown: as long as the others, then.
    last_duration = shown_for[last] or (last - first) / (len(shown_for) - 1)
    return packets, shown, float((last + last_duration - first) * stream.time_base)


def _frame_rate(stream: av.VideoStream, frames: int, seconds: float | None) -> float | None:
    """Frames a second: what the header says, unless the frames' own times tell otherwise.

    Where frames are shown for different times, headers give the rate of the clock.
    """
    announced = float(stream.average_rate) if stream.average_rate else None
    measured = frames / seconds if seconds and seconds > 0 else None
    if announced and measured and abs(announced - measured) > _RATE_TOLERANCE * measured:
        return measured
    return announced or measured


def _decode(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    wanted: set[int],
    framing: Framing,
    limits: Limits,
    deadline: float,
) -> tuple[dict[int, Tensor], int, tuple[int, int]]:
    """The wanted frames (and the last one) by index, the count of all, and (width, height)."""
    # The decoder itself refuses frames larger than the header admits.
    stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
    kept: dict[int, Tensor] = {}
    last: av.VideoFrame | None = None
    count, size = 0, (0, 0)
    for frame in _frames(container, stream, limits):
        _check("pixels a frame", frame.width * frame.height, limits.max_pixels)
        _check_time(deadline, limits)
        if count in wanted:
            kept[count], size = _prepare(frame, framing)
        last = frame
        count += 1
    if last is None:
        raise UnusableVideoError("the video holds no frame that can be decoded")
    if count - 1 not in kept:
        kept[count - 1], size = _prepare(last, framing)
    return kept, count, size


def _frames(
    container: av.container.InputContainer, stream: av.VideoStream, limits: Limits
) -> Iterator[av.VideoFrame]:
    sized = stream.codec_context.width > 0
    try:
        yield from container.decode(stream)
    except av.error.ArgumentError as error:
        if sized:
            raise
        # The decoder refused the first frame, in opening as well: so the size stayed unknown.
        raise TooLargeError(
            f"the video has more pixels a frame than the {limits.max_pixels} allowed"
        ) from error


def _prepare(frame: av.VideoFrame, framing: Framing) -> tuple[Tensor, tuple[int, int]]:
    """One frame upright, scaled and cropped, [3, H, W] in 0..1, and its own (width, height)."""
    # By default each conversion starts threads of its own, which takes longer than small frames.
    pixels = frame.to_ndarray(format="rgb24", threads=1)  # [H, W, 3]
    quarter_turns = round(frame.rotation / 90) % 4
    pixels = np.ascontiguousarray(np.rot90(pixels, quarter_turns))
    height, width = pixels.shape[:2]
    if min(height, width) < _SMALLEST_SIDE:
        raise UnusableVideoError(
            f"the video is too small to recognise anything in: {width}x{height} pixels, at least "
            f"{_SMALLEST_SIDE}x{_SMALLEST_SIDE} are needed"
        )
    return prepare_clip(pixels[None], framing)[0], (width, height)


def _check_time(deadline: float, limits: Limits) -> None:
    if time.monotonic() > deadline:
        raise TooLargeError(
            f"decoding the video takes longer than the {limits.max_decode_seconds:g} s allowed"
        )
