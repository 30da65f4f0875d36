"""Checks of the clips and the flow that a pipeline is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_batch", "at_least_float32", "check_flow", "check_video"]


def as_batch(video: Tensor | np.ndarray | Sequence[Tensor | np.ndarray]) -> Tensor:
    """One tensor [B, T, 3, H, W] of a tensor, an array, or a list of clips [T, 3, H, W]."""
    if isinstance(video, Tensor | np.ndarray):
        return torch.as_tensor(video)
    clips = [torch.as_tensor(clip) for clip in video]
    if not clips:
        raise ValueError("video must hold at least one clip, got an empty list")
    shapes = {tuple(clip.shape) for clip in clips}
    if len(shapes) > 1:
        raise ValueError(f"clips of video must have one shape, got {sorted(shapes)}")
    return torch.stack(clips)


def check_video(video: Tensor, factor: int, most: int | None = None) -> None:
    """Raise ValueError unless `video` is [B, T, 3, H, W] in 0..1 with at least 2 frames.

    Args:
        video: floating point.
        factor: height and width must be multiples of this.
        most: maximum number of frames; None for no limit.
    """
    if video.ndim != 5 or video.shape[2] != 3:
        raise ValueError(f"video must have shape [B, T, 3, H, W], got {list(video.shape)}")
    if video.shape[0] < 1 or video.shape[1] < 2:
        raise ValueError(f"video needs at least 1 clip of 2 frames, got shape {list(video.shape)}")
    if most is not None and video.shape[1] > most:
        raise ValueError(
            f"video may have at most {most} frames for this pipeline, got {video.shape[1]}"
        )
    height, width = video.shape[-2:]
    if min(height, width) < factor or height % factor or width % factor:
        raise ValueError(
            f"video height and width must be multiples of {factor}, got {height}x{width}"
        )
    if not video.is_floating_point():
        raise ValueError(f"video must be floating point in 0..1, got {video.dtype}")
    low, high = (float(bound) for bound in torch.aminmax(video.float()))
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise ValueError(f"video must be in 0..1, got values in {low}..{high}")


def check_flow(flow: Tensor, video: Tensor) -> None:
    """Raise ValueError unless `flow` is [B, T-1, 2, H, W] for a `video` [B, T, 3, H, W]."""
    batch, frames, _, height, width = video.shape
    if flow.shape != (batch, frames - 1, 2, height, width):
        raise ValueError(
            f"flow must have shape {[batch, frames - 1, 2, height, width]} for this video, "
            f"got {list(flow.shape)}"
        )


def at_least_float32(values: Tensor) -> Tensor:
    """Widen half precision to float32; float64, which checks of gradients use, stays."""
    return values if values.dtype == torch.float64 else values.float()
