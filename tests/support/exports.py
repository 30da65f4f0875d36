"""SlowFast, X3D and Hiera of their own packages, made as docs/recognisers.md exports them.

`make exports` puts the packages beside the environment: their own requirements would bring another
torch and torchvision along.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["CLASSES", "MODELS", "Exported", "available", "export"]

FOLDER = Path(__file__).parents[2] / "build" / "exports"
CLASSES = 3
SIZE = 64


class Exported(NamedTuple):
    """A model, and the frames that it takes."""

    network: nn.Module
    frames: int


class Pathways(nn.Module):
    """SlowFast with one input: the slow pathway sees every fourth frame of the fast one's."""

    def __init__(self, network: nn.Module, frames: int, alpha: int = 4) -> None:
        super().__init__()
        self.network = network
        # As pytorchvideo's `uniform_temporal_subsample_repeated` picks them.
        self.slow = torch.linspace(0, frames - 1, frames // alpha).long().tolist()

    def forward(self, x: Tensor) -> Any:
        return self.network([x[:, :, self.slow], x])


def slowfast() -> Exported:
    """A SlowFast of 50 layers, a quarter as wide."""
    from pytorchvideo.models.slowfast import create_slowfast

    network = create_slowfast(
        model_num_class=CLASSES,
        stem_dim_outs=(16, 2),
        head_pool_kernel_sizes=((2, 2, 2), (8, 2, 2)),
    )
    return Exported(Pathways(network, frames=8), 8)


def x3d() -> Exported:
    """A shallow X3D; its head would answer probabilities."""
    from pytorchvideo.models.x3d import create_x3d

    network = create_x3d(
        input_clip_length=4,
        input_crop_size=SIZE,
        model_num_class=CLASSES,
        width_factor=1.0,
        depth_factor=1.0,
    )
    network.blocks[-1].activation = None
    return Exported(network, 4)


def hiera() -> Exported:
    """A small Hiera; its head would answer probabilities."""
    from hiera import Hiera

    network = Hiera(
        input_size=(4, SIZE, SIZE),
        num_classes=CLASSES,
        embed_dim=16,
        stages=(1, 1, 2, 1),
        q_stride=(1, 2, 2),
        mask_unit_size=(1, 8, 8),
        patch_kernel=(3, 7, 7),
        patch_stride=(2, 4, 4),
        patch_padding=(1, 3, 3),
        sep_pos_embed=True,
    )
    network.head.act_func = nn.Identity()
    return Exported(network, 4)


MODELS = {"slowfast": slowfast, "x3d": x3d, "hiera": hiera}


def available() -> bool:
    """Make the packages importable; False where they are not there."""
    if importlib.util.find_spec("pytorchvideo") is None and FOLDER.is_dir():
        sys.path.append(os.fspath(FOLDER))
    return importlib.util.find_spec("pytorchvideo") is not None


def export(model: Exported, file: Path) -> Path:
    """The program, for any number of clips, and the YAML beside it."""
    example = torch.zeros(2, 3, model.frames, SIZE, SIZE)
    batch = torch.export.Dim("batch", max=64)
    program = torch.export.export(model.network, (example,), dynamic_shapes={"x": {0: batch}})
    torch.export.save(program, file)
    file.with_suffix(".yaml").write_text(
        f"frames: {model.frames}\nsize: {SIZE}\nlayout: BCTHW\nmean: [0.45, 0.45, 0.45]\n"
        "std: [0.225, 0.225, 0.225]\nlabels: [wave, jump, run]\n"
    )
    return file
