"""A video through a function of its frames, window by window, to a new file."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from videopure.format.settings import Limits
from videopure.handler.errors import RequestError
from videopure.handler.video.orientation import orientation_of, upright
from videopure.handler.video.reading import Budget, OpenVideo, Survey, open_video

__all__ = ["TARGETS", "RewriteError", "Rewritten", "rewrite_video"]

# Files that can be written: by file ending, the encoder and its options.
# No B-frames: MP4 keeps the last frame's duration only if frames are coded in display order.
_H264 = ("libx264", {"crf": "12", "bf": "0"})
TARGETS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": _H264,
    ".m4v": _H264,
    ".mov": _H264,
    ".mkv": _H264,
    ".webm": ("libvpx-vp9", {"crf": "15", "b:v": "0", "cpu-used": "4"}),
}
_CLOCK = 90_000  # ticks per second of the written file
# No time limit for one's own video.
_HUGE = 2**31 - 1
_UNLIMITED = Limits(
    max_bytes=2**62,
    max_seconds=_HUGE,
    max_frames=_HUGE,
    max_pixels=_HUGE,
    max_decode_seconds=_HUGE,
)

Frames = NDArray[np.uint8]


class RewriteError(ValueError):
    """The video cannot be read, or the copy cannot be written."""


@dataclass(frozen=True)
class Rewritten:
    """The written copy.

    Args:
        rate: average frame rate; each frame keeps its duration.
        seconds: how long it lasts.
        sound: whether the original has sound, which the copy lacks.
        warnings: warnings about the original.
    """

    frames: int
    width: int
    height: int
    rate: float
    seconds: float
    sound: bool
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class _Timed:
    """A frame [H, W, 3], the second at which it starts, and its pixel aspect ratio."""

    pixels: Frames
    begins: float
    aspect: Fraction | None


def rewrite_video(
    source: Path,
    target: Path,
    change: Callable[[Tensor], Tensor],
    window: int,
    multiple: int,
    on_progress: Callable[[int, int], object],
) -> Rewritten:
    """Write a copy whose frames went through `change`, without sound.

    It is read as in the handler, and keeps the frames' times, size and pixel aspect ratio; frames
    are turned upright. The file grows window by window.

    Args:
        source, target: files; the target's ending is one of `TARGETS`.
        change: clips [1, T, 3, H, W] in 0..1 to such clips.
        window: frames T of a clip; the last clip is padded with its last frame.
        multiple: height and width of the clips are multiples of it: frames are padded by repeating
            their edges, and cropped back.
        on_progress: called with the frames done, first with 0, and their total according to the
            packets.

    Raises:
        RewriteError: saying why.
    """
    if target.suffix.lower() not in TARGETS:
        raise RewriteError(f"{target} must end in one of {', '.join(TARGETS)}")
    try:
        with _mapped(source) as data:
            budget = Budget(_UNLIMITED)
            with open_video(data, budget) as video:
                survey = video.survey()
            with open_video(data, budget) as video, av.open(str(target), "w") as container:
                writer = _Writer(container, target.suffix.lower(), survey)
                on_progress(0, len(survey.begins))
                for timed in _windows(_frames(video, survey), window):
                    images = _changed([one.pixels for one in timed], change, window, multiple)
                    for image, one in zip(images, timed, strict=True):
                        writer.add(image, one)
                    on_progress(writer.frames, len(survey.begins))
                warnings = video.judge(writer.frames)
                writer.close(video.seconds)
                sound = bool(video.container.streams.audio)
        width, height = writer.size
        rate = writer.frames / video.seconds
        return Rewritten(writer.frames, width, height, rate, video.seconds, sound, warnings)
    except RequestError as error:
        raise RewriteError(f"{source}: {error}") from error
    except (av.error.FFmpegError, OSError) as error:
        raise RewriteError(f"{source} to {target}: {error}") from error


@contextmanager
def _mapped(source: Path) -> Iterator[mmap.mmap]:
    """A file's bytes, read from disk on demand."""
    if source.stat().st_size == 0:
        raise RewriteError(f"{source} is empty")
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _frames(video: OpenVideo, survey: Survey) -> Iterator[_Timed]:
    for frame, begins in video.frames(survey):
        orientation = orientation_of(frame)
        aspect = video.stream.sample_aspect_ratio
        if aspect and orientation.transpose:
            aspect = 1 / aspect
        yield _Timed(upright(frame.to_ndarray(format="rgb24"), orientation), begins, aspect)


def _windows(frames: Iterator[_Timed], length: int) -> Iterator[list[_Timed]]:
    """At most `length` frames together; a change of size starts a new window."""
    window: list[_Timed] = []
    for frame in frames:
        if window and (len(window) == length or window[0].pixels.shape != frame.pixels.shape):
            yield window
            window = []
        window.append(frame)
    if window:
        yield window


def _changed(
    images: list[Frames], change: Callable[[Tensor], Tensor], window: int, multiple: int
) -> Frames:
    """Frames [T, H, W, 3] through `change`."""
    frames = np.stack(images)
    count, height, width, _ = frames.shape
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255  # [T, 3, H, W]
    clip = torch.cat((clip, clip[-1:].expand(window - count, -1, -1, -1)))
    clip = F.pad(clip, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    changed = change(clip[None])[0, :count, :, :height, :width]
    pixels: Frames = (changed.cpu() * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels  # [T, H, W, 3]


class _Writer:
    """Encodes frames, each as soon as its duration is known."""

    def __init__(self, container: Any, ending: str, survey: Survey) -> None:
        self._container = container
        codec, options = TARGETS[ending]
        rate = Fraction(len(survey.begins) / survey.seconds).limit_denominator(1001)
        rate = max(rate, Fraction(1, 1001))
        self._stream = container.add_stream(codec, rate=rate, options=options)
        self._waiting: tuple[Frames, _Timed] | None = None
        self._shown_for: dict[int, int] = {}  # ticks, by the tick at which a frame starts
        self.frames = 0
        self.size = (0, 0)  # width, height

    def add(self, image: Frames, timed: _Timed) -> None:
        """Take a frame [H, W, 3]; the one before it is written."""
        if self._waiting is None:
            self._begin(image, timed)
        else:
            self._write(*self._waiting, timed.begins)
        self._waiting = (image, timed)
        self.frames += 1

    def close(self, seconds: float) -> None:
        """Write the rest of a video of this many seconds."""
        if self._waiting is not None:
            self._write(*self._waiting, seconds)
        self._encode(None)

    def _begin(self, image: Frames, timed: _Timed) -> None:
        height, width = image.shape[:2]
        aspect = timed.aspect or Fraction(1)
        if self._stream.codec_context.name.startswith("libvpx"):
            # VP9 has only square pixels, and PyAV does not tell WebM about others.
            width, aspect = round(width * aspect), Fraction(1)
        # H.264 and VP9 halve the colour planes, so the size has to be even.
        self.size = (width + width % 2, height + height % 2)
        self._stream.width, self._stream.height = self.size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _CLOCK)
        self._stream.codec_context.sample_aspect_ratio = aspect

    def _write(self, image: Frames, timed: _Timed, until: float) -> None:
        frame = av.VideoFrame.from_ndarray(_even(image), format="rgb24")
        if (frame.width, frame.height) != self.size:  # it changed mid-stream, or is stretched
            frame = frame.reformat(*self.size)
        frame.pts = round(timed.begins * _CLOCK)
        frame.time_base = Fraction(1, _CLOCK)
        self._shown_for[frame.pts] = round(until * _CLOCK) - frame.pts
        self._encode(frame)

    def _encode(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            # Encoders give every frame the average duration.
            packet.duration = self._shown_for.pop(packet.pts, packet.duration)
            self._container.mux(packet)


def _even(image: Frames) -> Frames:
    """A frame with its last row or column repeated if the size is odd."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded)
