"""From the frames of a video to the clip that the purifier and the recogniser work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Framing", "prepare_clip", "roll_frames", "sample_frame_indices"]


@dataclass(frozen=True)
class Framing:
    """How frames of any size become those that a recogniser takes.

    Args:
        size: (height, width) cut out of the centre at last.
        resize: before that: length of the shorter side, (height, width) whatever the proportions,
            or None for the least that covers `size`.
        interpolation: `bilinear` or `bicubic`.
        antialias: smooth while scaling down.
        centre: where an odd number of pixels is cut off, whether the larger half goes from the
            end (`floor`) or from where it makes the offset even (`round`, as torchvision does).
        sampling: which frame represents each part of a video: `centre` or `start` of equal
            numbers of frames, see `sample_frame_indices`; or `time`, the one shown in the middle
            of each of as many equal times, for recognisers whose own library samples so.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    centre: str = "floor"
    sampling: str = "centre"

    def __post_init__(self) -> None:
        for argument, allowed in (
            ("interpolation", ("bilinear", "bicubic")),
            ("centre", ("floor", "round")),
            ("sampling", ("centre", "start", "time")),
        ):
            if getattr(self, argument) not in allowed:
                raise ValueError(
                    f"{argument} must be one of {', '.join(allowed)}, got "
                    f"{getattr(self, argument)!r}"
                )
        resized = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        if resized is not None and (resized[0] < self.size[0] or resized[1] < self.size[1]):
            raise ValueError(
                f"resize must be at least the size that is cut out {self.size}, got {self.resize}"
            )

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a frame after it was scaled."""
        if isinstance(self.resize, tuple):
            return self.resize
        if self.resize is not None:  # the libraries round the longer side down
            short = min(height, width)
            return (self.resize * height // short, self.resize * width // short)
        scale = max(self.size[0] / height, self.size[1] / width)
        return max(self.size[0], round(height * scale)), max(self.size[1], round(width * scale))

    def offset(self, length: int, kept: int) -> int:
        """First of the `kept` pixels in the middle of `length`."""
        cut = length - kept
        return cut // 2 if self.centre == "floor" else round(cut / 2)


def sample_frame_indices(total: int, num_frames: int, sampling: str = "centre") -> list[int]:
    """Indices of `num_frames` frames spread evenly over a video of `total` frames.

    The video is cut into `num_frames` equal parts and of each the frame at its centre is taken,
    or with `sampling="start"` the one at its start.
    A video that is too short has its frames repeated evenly, so that all of it is still shown.
    """
    if total < 1:
        raise ValueError(f"total must be at least 1 frame, got {total}")
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    shift = 1 if sampling == "centre" else 0
    return [(2 * i + shift) * total // (2 * num_frames) for i in range(num_frames)]


def prepare_clip(frames: np.ndarray, framing: Framing | tuple[int, int]) -> Tensor:
    """Scale frames and cut out their centre.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        framing: what a recogniser wants; (height, width) alone stands for `Framing` with its
            defaults.

    Returns:
        float32 [T, 3, height, width] in 0..1; the exact pixels where the size fits already.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}"
        )
    framing = framing if isinstance(framing, Framing) else Framing(framing)
    clip = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # [T, 3, H, W]
    clip = clip.float() / 255
    height, width = clip.shape[-2:]
    resized = framing.resized(height, width)
    if resized != (height, width):
        clip = F.interpolate(
            clip, resized, mode=framing.interpolation, antialias=framing.antialias
        ).clamp(0, 1)
    height, width = framing.size
    top, left = framing.offset(resized[0], height), framing.offset(resized[1], width)
    return clip[..., top : top + height, left : left + width].contiguous()


def roll_frames(clips: Tensor, shifts: Sequence[tuple[int, int]]) -> Tensor:
    """Every frame of each clip rolled by its (down, right) pixels: clips [B, T, 3, H, W]."""
    if not any(down or right for down, right in shifts):
        return clips
    rolled = [clip.roll(shift, (-2, -1)) for clip, shift in zip(clips, shifts, strict=True)]
    return torch.stack(rolled)
