"""Optical flow between neighbouring frames."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

__all__ = ["DISFlow", "FlowEstimator"]

# Called with a video [B, T, 3, H, W] in 0..1; answers [B, T-1, 2, H, W], (dx, dy) in pixels from
# frame k to frame k + 1, float32, on the video's device.
FlowEstimator = Callable[[Tensor], Tensor]

# DIS matches patches of 8 pixels over an image pyramid and rejects smaller images.
_SMALLEST_SIDE = 16


class DISFlow:
    """Dense inverse search (Kroeger et al., 2016) of OpenCV: needs no weights and runs on the CPU.

    Clips smaller than 16 pixels on a side are enlarged for the search and the flow scaled back.
    """

    def __call__(self, video: Tensor) -> Tensor:
        """Flow of each clip; see `FlowEstimator` for shapes and units."""
        gray = self._gray_frames(video.detach())
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flow = [
            np.stack([self._pair(search, clip[k], clip[k + 1]) for k in range(len(clip) - 1)])
            for clip in gray
        ]
        stacked = torch.from_numpy(np.stack(flow))  # [B, T-1, H, W, 2]
        return stacked.permute(0, 1, 4, 2, 3).contiguous().to(video.device)  # [B, T-1, 2, H, W]

    @staticmethod
    def _gray_frames(video: Tensor) -> np.ndarray:
        """Luma of all frames, uint8 [B, T, H, W]."""
        weights = video.new_tensor([0.299, 0.587, 0.114], dtype=torch.float32).view(3, 1, 1)
        luma = (video.float() * weights).sum(dim=2)
        return (luma.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()

    @staticmethod
    def _pair(search: cv2.DISOpticalFlow, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Flow of one pair of frames, float32 [H, W, 2]."""
        height, width = first.shape
        factor = max(1, -(-_SMALLEST_SIDE // min(height, width)))
        if factor == 1:
            return np.asarray(search.calc(first, second, None))
        size = (width * factor, height * factor)
        large = search.calc(cv2.resize(first, size), cv2.resize(second, size), None)
        return np.asarray(cv2.resize(large, (width, height))) / np.float32(factor)
