"""Decodes a video in memory to the frames that a recogniser takes."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field
from typing import Any

import av
import torch
from torch import Tensor

from videopure.format.limits import Limits
from videopure.handler.errors import NotAVideoError, TooLargeError, UnusableVideoError
from videopure.handler.memory import bounded_memory, is_out_of_memory
from videopure.handler.video.orientation import orientation_of, upright
from videopure.handler.video.reading import Budget, OpenVideo, Survey, open_video
from videopure.purifier.clip import Framing, prepare_clip, sample_frame_indices
from videopure.wire.schemas import VideoInfo

__all__ = ["Clip", "Sampling", "read_clip"]

_SMALLEST_SIDE = 8


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are used.

    Args:
        frames: frames per clip.
        clips: number of equal parts of the video, one clip each. Frames spread evenly over the
            whole video, cut into runs of equal length, are the frames of each part alone.
        stride: most seconds of video per part; determines the number of parts, at most `clips`.
        phase: position of each frame in its share of the video, from 0 to 1; None: as the framing
            says.
    """

    frames: int
    clips: int = 1
    stride: float | None = None
    phase: float | None = None

    def parts(self, seconds: float) -> int:
        """The number of clips of a video of this length."""
        if self.stride is None:
            return self.clips
        return max(1, min(self.clips, self._wanted(seconds)))

    def warnings(self, seconds: float) -> list[str]:
        """Warnings if the parts are longer than the stride."""
        if self.stride is None or self._wanted(seconds) <= self.clips:
            return []
        return [
            f"the video lasts {seconds:.6g} s and {self.clips} clips are used: each covers "
            f"{seconds / self.clips:.3g} s instead of {self.stride:g}"
        ]

    def _wanted(self, seconds: float) -> int:
        # Times are sums: a thousandth of a second more does not add a part.
        return 1 if self.stride is None else math.ceil((seconds - 1e-3) / self.stride)


@dataclass(frozen=True, eq=False)
class Clip:
    """The sampled frames, float32 [clips * T, 3, H, W] in 0..1, and where they come from."""

    frames: Tensor
    info: VideoInfo
    warnings: list[str]
    clips: int = 1


@dataclass
class _Look:
    """The result of one decoding pass: when every frame starts, and the wanted frames."""

    begins: list[float] = field(default_factory=list)
    seconds: float = 0.0
    size: tuple[int, int] = (0, 0)  # width, height of an upright frame
    kept: dict[int, Tensor] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def nearest(self, index: int) -> Tensor:
        """The kept frame at an index; damaged files may not always decode alike."""
        return self.kept[min(self.kept, key=lambda kept: abs(kept - index))]


def read_clip(
    data: bytes, sampling: Sampling | int, framing: Framing | tuple[int, int], limits: Limits
) -> Clip:
    """Decode a video and keep frames that are spread evenly over it.

    The packets tell how many frames to expect, so one decoding pass is enough if each packet is a
    frame; otherwise a second pass takes the right ones. Frames are scaled and cropped as they are
    decoded, so that memory does not grow with the video's size. Nothing outside `data` is opened.

    Args:
        data: the file.
        sampling: which frames to keep; a number means that many frames in one clip.
        framing: framing of the clip, or its (height, width); see `prepare_clip`.
        limits: a video beyond them is refused, by its header if possible.

    Raises:
        NotAVideoError, UnusableVideoError, TooLargeError: saying why.
    """
    if not data:
        raise UnusableVideoError("the video is empty: the request body holds 0 bytes")
    budget = Budget(limits)
    budget.check("bytes", len(data), limits.max_bytes)
    framing = framing if isinstance(framing, Framing) else Framing(framing)
    sampling = sampling if isinstance(sampling, Sampling) else Sampling(sampling)
    try:
        with bounded_memory(limits.max_decode_memory):
            return _read(data, sampling, framing, budget)
    except (MemoryError, RuntimeError, av.error.BlockingIOError) as error:
        if not is_out_of_memory(error):
            raise
        raise TooLargeError(
            f"decoding the video takes more memory than the {limits.max_decode_memory} bytes "
            "allowed"
        ) from error


def _read(data: bytes, sampling: Sampling, framing: Framing, budget: Budget) -> Clip:
    with open_video(data, budget) as video:
        survey = video.survey()
        _refuse_still(video, len(survey.begins))
    guess = _sample(survey.begins, survey.seconds, sampling, framing)
    look = _look(data, survey, set(guess), framing, budget)
    indices = _sample(look.begins, look.seconds, sampling, framing)
    if not look.kept.keys() >= set(indices):
        look = _look(data, survey, set(indices), framing, budget)
    total, clips = len(look.begins), sampling.parts(look.seconds)
    warnings = [*look.warnings, *sampling.warnings(look.seconds)]
    if total < len(indices):
        warnings.append(
            f"the video has {total} frames and {len(indices)} are used: frames are repeated evenly"
        )
    info = VideoInfo(
        frames=total,
        fps=total / look.seconds,
        duration_s=look.seconds,
        width=look.size[0],
        height=look.size[1],
        frame_indices=indices,
        sampling_phase=sampling.phase,
    )
    return Clip(torch.stack([look.nearest(index) for index in indices]), info, warnings, clips)


def _refuse_still(video: OpenVideo, frames: int) -> None:
    if video.container.format.name == "mjpeg" and frames == 1:
        raise NotAVideoError("the file is a JPEG picture: send a video")


def _sample(begins: list[float], seconds: float, sampling: Sampling, framing: Framing) -> list[int]:
    """Indices of the frames to use; by number, or those shown at evenly spread times."""
    if not begins:
        return []
    total, count = len(begins), sampling.frames * sampling.parts(seconds)
    if framing.sampling == "time":
        phase = 0.5 if sampling.phase is None else sampling.phase
        times = ((i + phase) * seconds / count for i in range(count))
        return [max(0, bisect.bisect_right(begins, moment) - 1) for moment in times]
    if sampling.phase is None:
        return sample_frame_indices(total, count, framing.sampling)
    return [min(total - 1, int((i + sampling.phase) * total / count)) for i in range(count)]


def _look(data: bytes, survey: Survey, wanted: set[int], framing: Framing, budget: Budget) -> _Look:
    """Decode all frames, and prepare the wanted ones."""
    look = _Look()
    with open_video(data, budget) as video:
        for index, (frame, begins) in enumerate(video.frames(survey)):
            look.begins.append(begins)
            if index in wanted:
                look.kept[index], look.size = _prepare(frame, framing)
            last = frame
        look.warnings = video.judge(len(look.begins))
        if not look.kept:  # far fewer frames than packets
            look.kept[len(look.begins) - 1], look.size = _prepare(last, framing)
        look.seconds = video.seconds
    return look


def _prepare(frame: Any, framing: Framing) -> tuple[Tensor, tuple[int, int]]:
    """One frame upright, scaled and cropped, [3, H, W] in 0..1, and its own (width, height)."""
    # By default each conversion starts its own threads, which takes longer than small frames.
    pixels = upright(frame.to_ndarray(format="rgb24", threads=1), orientation_of(frame))
    height, width = pixels.shape[:2]
    if min(height, width) < _SMALLEST_SIDE:
        raise UnusableVideoError(
            f"the video is too small to recognise anything in: {width}x{height} pixels, at least "
            f"{_SMALLEST_SIDE}x{_SMALLEST_SIDE} are needed"
        )
    return prepare_clip(pixels[None], framing)[0], (width, height)
