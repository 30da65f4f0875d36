"""Tiny random-weight diffusion models of the real classes, saved by diffusers itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    MotionAdapter,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet3DConditionModel,
    UNetMotionModel,
)

from tests.parity import FIXTURE
from videopure.motions.bundle_files import save_pipeline
from videopure.purifier.networks.patch_codec import PatchCodec

__all__ = [
    "TEXT_TO_VIDEO",
    "save_motion_adapter",
    "save_patch_pipeline",
    "save_stable_diffusion",
    "save_tiny_decoder",
    "tiny_motion_unet",
]

# UNet3DConditionModel, AutoencoderKL, DDIM, CLIP: the layout of text-to-video-ms-1.7b.
TEXT_TO_VIDEO = FIXTURE / "model_seed0"
_CHANNELS = (8, 16)


def _image_unet() -> UNet2DConditionModel:
    """In the layout of Stable Diffusion 1.5."""
    torch.manual_seed(1)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=_CHANNELS,
        layers_per_block=1,
        cross_attention_dim=_text_features(),
        attention_head_dim=2,
        norm_num_groups=4,
    )


def _motion_adapter(frames: int = 32) -> MotionAdapter:
    torch.manual_seed(2)
    adapter = MotionAdapter(
        block_out_channels=_CHANNELS,
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=frames,
    )
    # New adapters change nothing: their last layers are zero.
    for name, parameter in adapter.named_parameters():
        if "proj_out" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapter


def _text_features() -> int:
    config = json.loads((TEXT_TO_VIDEO / "text_encoder" / "config.json").read_text())
    return int(config["hidden_size"])


def save_stable_diffusion(folder: Path) -> Path:
    """A Stable Diffusion folder: UNet2DConditionModel, AutoencoderKL, CLIP and PNDM."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(TEXT_TO_VIDEO / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(TEXT_TO_VIDEO / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(TEXT_TO_VIDEO / "tokenizer"),
        unet=_image_unet(),
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_motion_adapter(folder: Path, frames: int = 32) -> Path:
    """A motion adapter for at most `frames` frames that goes with `save_stable_diffusion`."""
    _motion_adapter(frames).save_pretrained(folder)
    return folder


def tiny_motion_unet(frames: int = 32) -> UNetMotionModel:
    """What the two above make together."""
    return UNetMotionModel.from_unet2d(_image_unet(), _motion_adapter(frames)).eval()


def save_tiny_decoder(folder: Path, latent_channels: int = 4) -> Path:
    """An AutoencoderTiny of as many scales as the tiny AutoencoderKL has."""
    torch.manual_seed(3)
    config = json.loads((TEXT_TO_VIDEO / "vae" / "config.json").read_text())
    scales = len(config["block_out_channels"])
    AutoencoderTiny(
        latent_channels=latent_channels,
        encoder_block_out_channels=(8,) * scales,
        decoder_block_out_channels=(8,) * scales,
        num_encoder_blocks=(1,) * scales,
        num_decoder_blocks=(1,) * scales,
    ).save_pretrained(folder)
    return folder


def change_scheduler(folder: Path, source: Path = TEXT_TO_VIDEO, **changes: object) -> Path:
    """A copy of a pipeline's folder with other settings of its scheduler."""
    shutil.copytree(source, folder)
    config = {**DDIMScheduler.load_config(folder / "scheduler"), **changes}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return folder


def save_patch_pipeline(folder: Path) -> Path:
    """A lossless codec of 4x4 patches and a very small UNet3DConditionModel, in float16."""
    torch.manual_seed(3)
    unet = UNet3DConditionModel(
        sample_size=4,
        in_channels=48,
        out_channels=48,
        down_block_types=("DownBlock3D",),
        up_block_types=("UpBlock3D",),
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=4,
        attention_head_dim=4,
    )
    save_pipeline(unet, PatchCodec(patch_size=4, latent_channels=48), folder)
    return folder
