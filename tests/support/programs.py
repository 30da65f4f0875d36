"""A tiny recogniser exported as a program, and the YAML that describes it."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["YAML", "Network", "save_export", "save_script"]

SHAPE = (3, 4, 16, 16)
YAML = """frames: 4
size: 16
layout: BCTHW
mean: [0.4, 0.5, 0.6]
std: [0.2, 0.25, 0.3]
labels: [wave, jump, run]
"""


class Network(nn.Module):
    """A recogniser such as people have: frames [B, 3, T, H, W], normalised, to logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(3, 8, 3, stride=2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().mean(dim=(2, 3, 4)))


def save_export(path: Path, batch: int | None = None, shape: tuple[int, ...] = SHAPE) -> Path:
    """A `torch.export` program of any number of clips, or of `batch` and no other."""
    dynamic = None if batch else {"x": {0: torch.export.Dim("batch", max=64)}}
    example = (torch.zeros(batch or 2, *shape),)
    torch.export.save(torch.export.export(Network().eval(), example, dynamic_shapes=dynamic), path)
    return path


def save_script(path: Path, shape: tuple[int, ...] = SHAPE) -> Path:
    """TorchScript."""
    with warnings.catch_warnings():  # deprecated for torch.export, but what people have
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(Network().eval(), torch.zeros(2, *shape)), path)
    return path
