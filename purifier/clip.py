"""From the frames of a video to the clip that the purifier and the recogniser work on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["prepare_clip", "roll_frames", "sample_frame_indices"]


def sample_frame_indices(total: int, num_frames: int) -> list[int]:
    """Indices of `num_frames` frames spread evenly over a video of `total` frames.

    The video is cut into `num_frames` equal parts and the frame at the centre of each is taken.
    A video that is too short has its frames repeated evenly, so that all of it is still shown.
    """
    if total < 1:
        raise ValueError(f"total must be at least 1 frame, got {total}")
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    return [(2 * i + 1) * total // (2 * num_frames) for i in range(num_frames)]


def prepare_clip(frames: np.ndarray, frame_size: tuple[int, int]) -> Tensor:
    """Scale frames to cover `frame_size` and cut out the centre.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        frame_size: (height, width) of the clip.

    Returns:
        float32 [T, 3, height, width] in 0..1; the exact pixels where the size fits already.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}"
        )
    height, width = frame_size
    clip = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # [T, 3, H, W]
    clip = clip.float() / 255
    scale = max(height / clip.shape[-2], width / clip.shape[-1])
    if scale != 1:
        covering = (
            max(height, round(clip.shape[-2] * scale)),
            max(width, round(clip.shape[-1] * scale)),
        )
        clip = F.interpolate(clip, covering, mode="bilinear", antialias=True).clamp(0, 1)
    top, left = (clip.shape[-2] - height) // 2, (clip.shape[-1] - width) // 2
    return clip[..., top : top + height, left : left + width].contiguous()


def roll_frames(clips: Tensor, shifts: Sequence[tuple[int, int]]) -> Tensor:
    """Every frame of each clip rolled by its (down, right) pixels: clips [B, T, 3, H, W]."""
    if not any(down or right for down, right in shifts):
        return clips
    rolled = [clip.roll(shift, (-2, -1)) for clip, shift in zip(clips, shifts, strict=True)]
    return torch.stack(rolled)
