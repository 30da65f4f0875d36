"""A tiny recogniser with random weights, in the layout that the loaders read."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from videopure.purifier.networks.motion_recogniser import MotionResNet3d

__all__ = ["LABELS", "save_recogniser"]

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
