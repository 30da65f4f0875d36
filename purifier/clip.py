"""Turns the frames of a video into the clip that the purifier and the recogniser work on."""

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
    """How frames of any size are prepared for a recogniser.

    Args:
        size: (height, width) of the centre crop, the last step.
        resize: size before the crop: length of the shorter side, (height, width) regardless of
            the aspect ratio, or None for the smallest size that covers `size`.
        interpolation: `bilinear` or `bicubic`.
        antialias: whether to antialias when scaling down.
        centre: rounding of the crop's offset where an odd number of pixels is cut off: down
            (`floor`), or to the even neighbour (`round`, as in torchvision).
        sampling: which frames represent a video: those at the `centre` or `start` of equal parts,
            counted in frames, see `sample_frame_indices`; or `time`, those shown at the centre of
            equal parts of its duration, for recognisers whose own library samples that way.
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
        """Height and width of a frame after scaling."""
        if isinstance(self.resize, tuple):
            return self.resize
        if self.resize is not None:  # the libraries round the longer side down
            short = min(height, width)
            return (self.resize * height // short, self.resize * width // short)
        scale = max(self.size[0] / height, self.size[1] / width)
        return max(self.size[0], round(height * scale)), max(self.size[1], round(width * scale))

    def offset(self, length: int, kept: int) -> int:
        """Index of the first of the `kept` pixels at the centre of `length`."""
        cut = length - kept
        return cut // 2 if self.centre == "floor" else round(cut / 2)


def sample_frame_indices(total: int, num_frames: int, sampling: str = "centre") -> list[int]:
    """Indices of `num_frames` frames spread evenly over a video of `total` frames.

    The video is divided into `num_frames` equal parts; the frame at the centre of each is taken,
    or with `sampling="start"` the one at its start. Frames of a video that is too short are
    repeated evenly, so that the whole video is still covered.
    """
    if total < 1:
        raise ValueError(f"total must be at least 1 frame, got {total}")
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    shift = 1 if sampling == "centre" else 0
    return [(2 * i + shift) * total // (2 * num_frames) for i in range(num_frames)]


def prepare_clip(frames: np.ndarray, framing: Framing | tuple[int, int]) -> Tensor:
    """Scale frames and crop their centre.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        framing: what the recogniser needs; (height, width) alone means `Framing` with its
            defaults.

    Returns:
        float32 [T, 3, height, width] in 0..1; pixels are unchanged if the size fits already.
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
    """Roll all frames of each clip by the clip's (down, right) pixels: clips [B, T, 3, H, W]."""
    if not any(down or right for down, right in shifts):
        return clips
    rolled = [clip.roll(shift, (-2, -1)) for clip, shift in zip(clips, shifts, strict=True)]
    return torch.stack(rolled)
