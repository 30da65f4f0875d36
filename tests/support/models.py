"""Tiny recognisers with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from videopure.purifier import NetworkRecogniser
from videopure.purifier.networks.motion_recogniser import MotionResNet3d

__all__ = ["LABELS", "TinyNetwork", "save_recogniser", "tiny_recogniser"]

LABELS = ["wave", "jump", "run", "sit"]


def save_recogniser(
    folder: Path, num_frames: int = 4, frame_size: tuple[int, int] = (16, 24)
) -> Path:
    """Write `config.json` and `model.safetensors`."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    network = MotionResNet3d(len(LABELS), width=4)
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {
        "kind": "videopure.motion_resnet3d",
        "name": "tiny",
        "num_frames": num_frames,
        "frame_size": list(frame_size),
        "labels": LABELS,
        "architecture": {"width": 4},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class TinyNetwork(nn.Module):
    """A real little 3D convolution whose answers differ between random clips."""

    def __init__(self, classes: int = len(LABELS)) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.features = nn.Conv3d(3, 8, 3, stride=2, padding=1)
            self.head = nn.Linear(8, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits [B, classes] of frames [B, T, 3, H, W] in 0..1."""
        features = self.features(frames.transpose(1, 2) * 40 - 20)  # [B, 3, T, H, W]
        return self.head(features.relu().mean((2, 3, 4)))


def tiny_recogniser(num_frames: int, frame_size: tuple[int, int]) -> NetworkRecogniser:
    """`TinyNetwork` as a recogniser."""
    recogniser = NetworkRecogniser(TinyNetwork(), "tiny", num_frames, frame_size, LABELS)
    return recogniser.eval().requires_grad_(False)
