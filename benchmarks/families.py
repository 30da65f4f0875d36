"""The cost of a clip with the published configurations of each family, counted without weights.

    python -m benchmarks.families

Networks and clips are on torch's meta device, where tensors have shapes but no values, so this
takes seconds and hardly any memory. The table is in docs/diffusion-models.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet3DConditionModel,
    WanTransformer3DModel,
)
from torch import nn

from benchmarks.counting import count_flops
from videopure.purifier.models import find_family
from videopure.purifier.networks import PromptEmbedding

SIZE = 224
# Denoiser calls of the published procedure, up and down through six levels, and its votes.
CALLS, VOTES = 12, 7

# As in the config.json of text-to-video-ms-1.7b; the VAE is that of Stable Diffusion 2.1.
UNET: dict[str, Any] = {
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": (*["CrossAttnDownBlock3D"] * 3, "DownBlock3D"),
    "up_block_types": ("UpBlock3D", *["CrossAttnUpBlock3D"] * 3),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "attention_head_dim": 64,
}
VAE: dict[str, Any] = {
    "sample_size": 512,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


class Published(NamedTuple):
    """A published model: its denoiser, its codec, and the scheduler that comes with it."""

    denoiser: Callable[..., Any]
    codec: Callable[[], Any]
    scheduler: Callable[[], Any]
    prompt: tuple[int, int]  # tokens, features
    frames: tuple[int, int]


# diffusers' defaults are those of CogVideoX-2B and of Wan 2.1's codec.
MODELS = {
    "text-to-video-ms-1.7b": Published(
        partial(UNet3DConditionModel, **UNET),
        partial(AutoencoderKL, **VAE),
        partial(DDIMScheduler, **SCHEDULER),
        *((77, 1024), (16, 32)),
    ),
    "CogVideoX-2B": Published(
        CogVideoXTransformer3DModel,
        AutoencoderKLCogVideoX,
        partial(
            CogVideoXDDIMScheduler,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            snr_shift_scale=3.0,
            timestep_spacing="trailing",
            clip_sample=False,
        ),
        *((226, 4096), (17, 33)),
    ),
    "Wan 2.1 1.3B": Published(
        partial(WanTransformer3DModel, num_attention_heads=12, ffn_dim=8960, num_layers=30),
        AutoencoderKLWan,
        partial(FlowMatchEulerDiscreteScheduler, shift=3.0),
        *((512, 4096), (17, 33)),
    ),
}


def main() -> None:
    """Print a row for each model and clip length."""
    print("| model | parameters | codec | frames | a call | encoding | a decoding | a clip |")
    print("|---|---|---|---|---|---|---|---|")
    for name, published in MODELS.items():
        for frames in published.frames:
            print(row(name, published, frames), flush=True)


@torch.no_grad()
def row(name: str, published: Published, frames: int) -> str:
    """Parameters in billions, and work in TFLOP, where a multiply-add counts as two."""
    with torch.device("meta"):
        denoiser, codec = published.denoiser(), published.codec()
        prompt = PromptEmbedding(*published.prompt)
        clip = torch.empty(1, frames, 3, SIZE, SIZE)
    model = find_family(denoiser)(codec, denoiser, None, prompt)
    # `encode` gives the latents their shape.
    made: list[torch.Tensor] = []
    encoding = count_flops(lambda: made.append(model.encode(clip)))
    call = count_flops(lambda: model.predict(made[0], 101.0))
    decoding = count_flops(lambda: model.decode(made[0], frames))
    total = encoding + CALLS * call + VOTES * decoding
    work = " | ".join(f"{flops / 1e12:.1f}" for flops in (call, encoding, decoding, total))
    return f"| {name} | {size(denoiser)} | {size(codec)} | {frames} | {work} |"


def size(network: nn.Module) -> str:
    """Number of parameters in billions."""
    return f"{sum(parameter.numel() for parameter in network.parameters()) / 1e9:.3f} B"


if __name__ == "__main__":
    main()
