"""Optical flow between neighbouring frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["RAFT_MODELS", "DISFlow", "FlowEstimator", "RAFTFlow", "load_flow"]

# Called with a video [B, T, 3, H, W] in 0..1; returns [B, T-1, 2, H, W], (dx, dy) in pixels from
# frame k to frame k + 1, float32, on the video's device.
FlowEstimator = Callable[[Tensor], Tensor]

# DIS matches patches of 8 pixels over an image pyramid and rejects smaller images.
_SMALLEST_SIDE = 16

# Names in torchvision.
RAFT_MODELS = ("raft_large", "raft_small")
# RAFT scales frames down by 8; its pyramid of correlations needs 16 pixels of what is left.
_RAFT_FACTOR = 8
_RAFT_SMALLEST_SIDE = 128
# Pairs of frames that pass through RAFT together.
_RAFT_PAIRS = 16


class DISFlow:
    """OpenCV's dense inverse search (Kroeger et al., 2016): needs no weights, runs on the CPU.

    Clips smaller than 16 pixels on a side are enlarged for the search, and the flow is scaled back.
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


class RAFTFlow(nn.Module):
    """torchvision's RAFT (arXiv 2003.12039), in float32.

    Frames are scaled to -1..1, as torchvision's transforms for its checkpoints do. Frames smaller
    than 128 pixels on a side are enlarged, and the flow is scaled back. Sides that are not a
    multiple of 8 are padded by repeating the last row or column.

    Args:
        network: `torchvision.models.optical_flow.raft_large` or `raft_small`.
        iterations: updates of the flow.
    """

    def __init__(self, network: nn.Module, iterations: int = 12) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.network = network
        self.iterations = iterations

    @torch.no_grad()  # the guidance treats the warped frames as constant: no gradient passes
    def forward(self, video: Tensor) -> Tensor:
        """Flow of each clip; see `FlowEstimator` for shapes and units."""
        batch, frames, _, height, width = video.shape
        factor = max(1, -(-_RAFT_SMALLEST_SIDE // min(height, width)))
        pixels = video.float().flatten(0, 1) * 2 - 1  # [B*T, 3, H, W]
        if factor > 1:
            pixels = F.interpolate(pixels, scale_factor=factor, mode="bilinear")
        below, beside = (-side * factor % _RAFT_FACTOR for side in (height, width))
        pixels = F.pad(pixels, (0, beside, 0, below), mode="replicate")
        clips = pixels.unflatten(0, (batch, frames))
        first, second = clips[:, :-1].flatten(0, 1), clips[:, 1:].flatten(0, 1)
        parts = zip(first.split(_RAFT_PAIRS), second.split(_RAFT_PAIRS), strict=True)
        flow = torch.cat([self._pairs(*part) for part in parts])
        flow = flow[..., : height * factor, : width * factor]
        if factor > 1:  # mean over the pixels that one pixel was enlarged to
            flow = F.avg_pool2d(flow, factor) / factor
        return flow.unflatten(0, (batch, frames - 1))  # [B, T-1, 2, H, W]

    def _pairs(self, first: Tensor, second: Tensor) -> Tensor:
        updates: list[Tensor] = self.network(first, second, num_flow_updates=self.iterations)
        return updates[-1]


def load_flow(folder: Path) -> RAFTFlow:
    """Load `config.json` and `model.safetensors` of a RAFT network.

    Raises:
        ValueError: if the folder holds no such network.
    """
    file = folder / "config.json"
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    name = str(config.get("kind")).removeprefix("torchvision.")
    if name not in RAFT_MODELS or set(config) - {"kind", "iterations"}:
        raise ValueError(
            f"{file} must hold a kind, torchvision. and one of {', '.join(RAFT_MODELS)}, and "
            f"iterations, got {config}"
        )
    from torchvision.models import get_model  # heavy, and an extra

    network = get_model(name, weights=None)
    try:
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        raise ValueError(f"{folder} holds no weights of {name}: {error}") from error
    return RAFTFlow(network, int(config.get("iterations", 12))).eval().requires_grad_(False)
