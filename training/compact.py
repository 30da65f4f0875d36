"""Compact purifiers: their sizes, their codec, and how one is assembled before training."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
from diffusers import UNet3DConditionModel
from torch import Tensor

from videopure.motions.bundle_files import make_scheduler
from videopure.purifier import VideoPurePipeline
from videopure.purifier.networks.patch_codec import PatchCodec
from videopure.purifier.networks.prompt_embedding import PromptEmbedding

__all__ = ["SIZES", "Size", "UNetSize", "assemble", "fit_codec"]

Size = Literal["S", "M", "L"]


class UNetSize(NamedTuple):
    """The dimensions of one size of purifier.

    Args:
        patch: pixels along one side of a latent pixel of its codec.
        channels: channels of the latents of its codec.
        widths: channels of the UNet's blocks.
        layers: layers of each block.
        heads: features per attention head.
    """

    patch: int
    channels: int
    widths: tuple[int, ...]
    layers: int
    heads: int = 4


# With coarse latents a clip costs a fifth, and less fine detail can be restored.
SIZES: dict[Size, UNetSize] = {
    "S": UNetSize(8, 64, (48, 64), 1),
    "M": UNetSize(4, 16, (48, 96), 1),
    "L": UNetSize(4, 24, (128, 192), 2, heads=8),
}


def fit_codec(
    images: Tensor, patch: int, channels: int, scaling_factor: float | None = None
) -> PatchCodec:
    """Principal components of the patches of images [N, 3, H, W] in -1..1.

    The smaller the scaling factor, the more each noise level covers of the pixels; None makes the
    latents' standard deviation 1.
    """
    codec = PatchCodec(patch, channels, 1.0 if scaling_factor is None else scaling_factor)
    codec.fit(images)
    if scaling_factor is None:
        with torch.no_grad():
            spread = float(codec.encode(images).latents.std())
        codec.register_to_config(scaling_factor=round(1 / max(spread, 1e-3), 3))
    return codec


def assemble(codec: Any, size: Size = "M") -> VideoPurePipeline:
    """A purifier whose UNet is still to be trained.

    Args:
        codec: a `PatchCodec`, `AutoencoderKL` or `AutoencoderTiny`, which is not changed.
        size: size of the UNet.

    Raises:
        ValueError: if there is no such size.
    """
    if size not in get_args(Size):
        raise ValueError(f"size must be one of {', '.join(get_args(Size))}, got {size!r}")
    chosen, channels = SIZES[size], int(codec.config.latent_channels)
    blocks = len(chosen.widths)
    unet = UNet3DConditionModel(
        sample_size=16,  # only recorded: it takes latents of any size
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock3D",) * blocks,  # attention along time, none within a frame
        up_block_types=("UpBlock3D",) * blocks,
        block_out_channels=chosen.widths,
        layers_per_block=chosen.layers,
        norm_num_groups=16,
        cross_attention_dim=16,
        attention_head_dim=chosen.heads,
    )
    return VideoPurePipeline(
        vae=codec,
        unet=unet,
        scheduler=make_scheduler(),
        prompt_embedding=PromptEmbedding.from_tensor(torch.zeros(1, 1, 16)),
    )
