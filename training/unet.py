"""Training of the demo's video diffusion model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet3DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Generator, Tensor, nn

from videopure.motions.dataset import TrainingClips, mixed_noise
from videopure.purifier.networks.patch_codec import PatchCodec
from videopure.training.loop import StageLog, step_generator, train_steps
from videopure.training.running_mean import RunningMean

__all__ = ["UNetRecipe", "denoising_psnr", "fit_codec", "latent_noise", "make_unet", "train_unet"]


@dataclass(frozen=True)
class UNetRecipe:
    """How the UNet is trained.

    Args:
        seed: of the noise and of the order of clips.
        steps, batch, learning_rate: as usual.
        max_timestep: it only learns the noise levels that purification visits, 0..max_timestep.
        white_share: share of the clips that get white noise alone; see `latent_noise`.
        ema_decay: of the running mean of the weights, which is what is kept.
    """

    seed: int
    steps: int
    batch: int = 4
    learning_rate: float = 1e-3
    warm_up: int = 150
    max_timestep: int = 120
    white_share: float = 0.4
    ema_decay: float = 0.998


def fit_codec(clips: TrainingClips, seed: int, scaling_factor: float) -> PatchCodec:
    """Principal components of 4x4 patches from one frame each of 1,500 varied clips."""
    generator = step_generator(seed, 0)
    frames, _ = clips.batch(1500, generator)
    picks = torch.randint(frames.shape[1], (len(frames),), generator=generator)
    codec = PatchCodec(patch_size=4, latent_channels=16, scaling_factor=scaling_factor)
    codec.fit(frames[torch.arange(len(frames)), picks] * 2 - 1)
    return codec


def make_unet() -> UNet3DConditionModel:
    """A small UNet for latents [B, 16, T, 16, 16], without spatial attention in its blocks."""
    return UNet3DConditionModel(
        sample_size=16,
        in_channels=16,
        out_channels=16,
        down_block_types=("DownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "UpBlock3D"),
        block_out_channels=(48, 96),
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=16,
        attention_head_dim=4,
    )


@torch.no_grad()
def encode_clips(codec: PatchCodec, clips: Tensor) -> Tensor:
    """Scaled latents [B, C, T, h, w] of clips [B, T, 3, H, W] in 0..1."""
    latents = codec.encode(clips.flatten(0, 1) * 2 - 1).latents * codec.config.scaling_factor
    return latents.unflatten(0, clips.shape[:2]).transpose(1, 2)


@torch.no_grad()
def latent_noise(
    codec: PatchCodec, clip_shape: tuple[int, ...], white_share: float, generator: Generator
) -> Tensor:
    """Noise [C, T, h, w] of unit mean variance for one clip [T, 3, H, W].

    White in a share of the clips, otherwise a random mixture of white noise and of noise that is
    smooth in space, in time or in both. Two things that purification meets are unlike white noise:
    temporal inversion injects the same noise into every frame, and perturbations made by gradients
    are smooth. (Mixed noise priors are known from video diffusion, e.g. arXiv 2305.10474.)
    """
    frames, _, height, width = clip_shape
    size = codec.config.patch_size
    shape = (codec.config.latent_channels, frames, height // size, width // size)
    white = torch.randn(shape, generator=generator)
    if float(torch.rand(1, generator=generator)) < white_share:
        return white
    angle = math.pi / 2 * float(torch.rand(1, generator=generator))
    pixels = mixed_noise(clip_shape, generator, cells=(2, 4, 8))
    both = encode_clips(codec, torch.stack((pixels, torch.zeros_like(pixels))).cpu())
    smooth = both[0] - both[1]  # the codec is affine: this leaves its linear part
    return math.cos(angle) * white + math.sin(angle) * smooth / smooth.square().mean().sqrt()


def train_unet(
    unet: UNet3DConditionModel,
    codec: PatchCodec,
    scheduler: DDIMScheduler,
    clips: TrainingClips,
    recipe: UNetRecipe,
    checkpoint: Path,
    device: torch.device,
    *,
    compiled: bool = False,
) -> tuple[UNet3DConditionModel, StageLog]:
    """Train the UNet to predict noise, with bfloat16 autocast; returns the mean weights.

    `compiled` needs a C++ compiler and minutes to start, then takes a third off every step.
    """
    unet.to(device).train()
    unet.set_attn_processor(AttnProcessor())  # over 16 frames the plain one trains faster
    for module in unet.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # clips never run out, so there is nothing to regularise
    optimizer = torch.optim.AdamW(unet.parameters(), lr=recipe.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_up_then_cosine(recipe))
    mean = RunningMean(unet, recipe.ema_decay)
    predict = torch.compile(unet) if compiled else unet
    alphas = scheduler.alphas_cumprod
    prompt = torch.zeros(recipe.batch, 1, unet.config.cross_attention_dim, device=device)

    def step(index: int) -> dict[str, float]:
        generator = step_generator(recipe.seed, index)
        frames, _ = clips.batch(recipe.batch, generator)
        latents = encode_clips(codec, frames)
        noise = torch.stack(
            [latent_noise(codec, tuple(f.shape), recipe.white_share, generator) for f in frames]
        )
        timesteps = torch.randint(recipe.max_timestep + 1, (recipe.batch,), generator=generator)
        alpha = alphas[timesteps].view(-1, 1, 1, 1, 1)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        noisy, noise, timesteps = noisy.to(device), noise.to(device), timesteps.to(device)
        with torch.autocast(device.type, torch.bfloat16):
            predicted = predict(noisy, timesteps, encoder_hidden_states=prompt).sample
        loss = (predicted.float() - noise).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean.update(unet, index)
        return {"loss": float(loss.detach())}

    parts = {"unet": unet, "optimizer": optimizer, "schedule": schedule, "mean": mean}
    log = train_steps("unet", recipe.steps, step, parts, checkpoint)
    return mean.network.eval(), log


def _warm_up_then_cosine(recipe: UNetRecipe) -> Any:
    def factor(step: int) -> float:
        if step < recipe.warm_up:
            return (step + 1) / recipe.warm_up
        share = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
        return 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, share)))

    return factor


@torch.no_grad()
def denoising_psnr(
    unet: UNet3DConditionModel,
    codec: PatchCodec,
    scheduler: DDIMScheduler,
    clips: Tensor,
    timestep: int,
    seed: int,
) -> float:
    """PSNR in dB of clips [B, T, 3, H, W] restored in one step from white noise at `timestep`."""
    latents = encode_clips(codec, clips)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    alpha = float(scheduler.alphas_cumprod[timestep])
    noisy = alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise
    prompt = torch.zeros(len(clips), 1, unet.config.cross_attention_dim)
    predicted = unet(noisy, timestep, encoder_hidden_states=prompt).sample
    x0 = (noisy - (1 - alpha) ** 0.5 * predicted) / alpha**0.5
    frames = x0.transpose(1, 2).flatten(0, 1) / codec.config.scaling_factor
    restored = (codec.decode(frames).sample / 2 + 0.5).clamp(0, 1)
    error = (restored - clips.flatten(0, 1)).square().mean()
    return float(-10 * torch.log10(error))
