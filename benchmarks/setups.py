"""The models that are measured: the demo's, and small ones like text-to-video-ms-1.7b."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from torch import Tensor

from benchmarks.published import PublishedSchedule
from videopure.motions import BUNDLE
from videopure.motions.bundle_files import BundleSettings
from videopure.motions.clips import CLASSES, Stream
from videopure.motions.dataset import load_split
from videopure.purifier import (
    DefendedRecogniser,
    NetworkRecogniser,
    PurifySettings,
    Recogniser,
    VideoPurePipeline,
    load_recogniser,
)
from videopure.purifier.networks import MotionResNet3d, PromptEmbedding

__all__ = ["SETUPS", "Setup", "SetupName", "demo", "text_to_video"]

SetupName = Literal["demo", "text-to-video"]


@dataclass(frozen=True)
class Setup:
    """Models to measure, and clips [N, T, 3, H, W] to measure them on.

    Args:
        name: its name in results.
        defended: the product, with its own settings.
        stock: the published schedule on modules as torch and diffusers make them.
        same: the published schedule on the modules of the product itself.
        clips: different clips.
    """

    name: str
    defended: DefendedRecogniser
    stock: PublishedSchedule
    same: PublishedSchedule
    clips: Tensor

    def with_settings(self, **changes: Any) -> DefendedRecogniser:
        """The product with other settings."""
        settings = replace(self.defended.settings, **changes)
        return DefendedRecogniser(self.defended.pipeline, self.defended.recogniser, settings)


def demo(clips: int = 4) -> Setup:
    """The demo's bundle, 16 frames of 64x64."""

    def load() -> tuple[VideoPurePipeline, Recogniser]:
        pipeline = VideoPurePipeline.from_pretrained(BUNDLE / "pipeline", dtype=torch.float32)
        return pipeline, load_recogniser(BUNDLE / "recogniser", dtype=torch.float32)

    settings = BundleSettings.read().purify_settings()
    unet = UNet3DConditionModel.from_pretrained(BUNDLE / "pipeline" / "unet", dtype=torch.float32)
    shown, _ = load_split(Stream("test"), 0, clips)
    return _assemble("demo", *load(), load()[1], unet, settings, shown)


def text_to_video(
    frames: int = 16,
    size: int = 128,
    clips: int = 4,
    *,
    width: int = 32,
    settings: PurifySettings | None = None,
) -> Setup:
    """The layout of text-to-video-ms-1.7b with a tenth of its channels and random weights."""
    torch.manual_seed(0)
    unet = UNet3DConditionModel(
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        cross_attention_dim=64,
        attention_head_dim=16,
        norm_num_groups=16,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(width // 2, width, 2 * width, 2 * width),
        layers_per_block=2,
        norm_num_groups=8,
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    prompt = PromptEmbedding.from_tensor(torch.randn(1, 77, 64))
    pipeline = VideoPurePipeline(vae, copy.deepcopy(unet), scheduler, prompt_embedding=prompt)

    def recogniser() -> Recogniser:
        torch.manual_seed(1)
        network = MotionResNet3d(len(CLASSES), width=width // 2)
        return NetworkRecogniser(network, "random", frames, (size, size), list(CLASSES))

    generator = torch.Generator().manual_seed(2)
    shown = torch.rand(clips, frames, 3, size, size, generator=generator)
    chosen = settings or PurifySettings()
    name = f"text-to-video layout, {frames}x{size}x{size}"
    return _assemble(name, pipeline, recogniser(), recogniser(), unet, chosen, shown)


SETUPS: dict[SetupName, Callable[..., Setup]] = {"demo": demo, "text-to-video": text_to_video}


def _assemble(
    name: str,
    pipeline: VideoPurePipeline,
    recogniser: Recogniser,
    stock_recogniser: Recogniser,
    stock_unet: Any,
    settings: PurifySettings,
    clips: Tensor,
) -> Setup:
    """A setup whose published schedules use untouched modules, and those of the product."""
    pipeline.set_progress_bar_config(disable=True)
    defended = DefendedRecogniser(pipeline, recogniser, settings)

    def published(unet: Any, votes: Recogniser) -> PublishedSchedule:
        return PublishedSchedule(
            pipeline.vae,
            unet.eval().requires_grad_(False),
            pipeline.scheduler,
            pipeline.prompt_embedding.embedding,
            pipeline.vae_scale_factor,
            votes.eval().requires_grad_(False),
            settings.inversion_steps,
            settings.guidance,
        )

    stock = published(stock_unet, stock_recogniser)
    return Setup(name, defended, stock, published(pipeline.unet, recogniser), clips)
