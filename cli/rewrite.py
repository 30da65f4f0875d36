"""A video through a function of its frames, window by window, to a new file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["RewriteError", "Rewritten", "rewrite_video"]

_DEFAULT_RATE = Fraction(25)

Frames = NDArray[np.uint8]


class RewriteError(ValueError):
    """The video cannot be read, or the copy cannot be written."""


@dataclass(frozen=True)
class Rewritten:
    """What was written; `rate` is in frames a second."""

    frames: int
    width: int
    height: int
    rate: Fraction


def rewrite_video(
    source: Path,
    target: Path,
    change: Callable[[Tensor], Tensor],
    window: int,
    multiple: int,
    on_progress: Callable[[int, int | None], object],
) -> Rewritten:
    """Write a copy whose frames went through `change`, in H.264 and without sound.

    Args:
        source, target: files; the target's ending chooses the container.
        change: clips [1, T, 3, H, W] in 0..1 to such clips.
        window: frames T of a clip; the last one is filled up with its last frame.
        multiple: height and width of the clips are multiples of it: frames are padded by their
            edges, and cut back afterwards.
        on_progress: told the frames done, and how many there are where the header says so.

    Raises:
        RewriteError: saying why.
    """
    try:
        with av.open(str(source), metadata_errors="replace") as reader:
            if not reader.streams.video:
                raise RewriteError(f"{source} has no video stream")
            stream = reader.streams.video[0]
            rate = Fraction(stream.average_rate or _DEFAULT_RATE)
            total = stream.frames or None
            with av.open(str(target), "w") as writer:
                done = 0
                output: av.VideoStream | None = None
                for frames in _windows(_frames(reader, stream), window):
                    changed = _changed(frames, change, window, multiple)
                    if output is None:
                        output = _output(writer, rate, changed.shape[2], changed.shape[1])
                    for image in changed:
                        writer.mux(output.encode(_even(image)))
                    done += len(changed)
                    on_progress(done, total)
                if output is None:
                    raise RewriteError(f"{source} holds no frames")
                writer.mux(output.encode(None))
                return Rewritten(done, output.width, output.height, rate)
    except av.error.FFmpegError as error:
        raise RewriteError(f"{source} to {target}: {error}") from error


def _frames(reader: av.container.InputContainer, stream: av.VideoStream) -> Iterator[Frames]:
    """Upright frames [H, W, 3]."""
    for frame in reader.decode(stream):
        yield np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)


def _windows(frames: Iterator[Frames], length: int) -> Iterator[Frames]:
    """Frames [T, H, W, 3], T at most `length`; a change of the size begins a new window."""
    window: list[Frames] = []
    for frame in frames:
        if window and (len(window) == length or window[0].shape != frame.shape):
            yield np.stack(window)
            window = []
        window.append(frame)
    if window:
        yield np.stack(window)


def _changed(
    frames: Frames, change: Callable[[Tensor], Tensor], window: int, multiple: int
) -> Frames:
    count, height, width, _ = frames.shape
    clip = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).float() / 255  # [T, 3, H, W]
    clip = torch.cat((clip, clip[-1:].expand(window - count, -1, -1, -1)))
    clip = F.pad(clip, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    changed = change(clip[None])[0, :count, :, :height, :width]
    pixels: Frames = (changed.cpu() * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels  # [T, H, W, 3]


def _output(
    writer: av.container.OutputContainer, rate: Fraction, width: int, height: int
) -> av.VideoStream:
    stream = writer.add_stream("libx264", rate=rate, options={"crf": "12"})
    # H.264 halves the colour planes: the size has to be even.
    stream.width, stream.height = width + width % 2, height + height % 2
    stream.pix_fmt = "yuv420p"
    return stream


def _even(image: Frames) -> av.VideoFrame:
    """A frame with its last row and column repeated where the size is odd."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
