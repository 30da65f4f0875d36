"""VideoPure as published (arXiv 2501.14999), as a baseline.

It computes the same numbers as `videopure.purifier` with the published amount of work:
classifier-free guidance on a doubled batch, two scheduler steps per denoising step, the guided
update by autograd, the codec one frame at a time, every candidate decoded and classified, one clip
at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from torch import Tensor
from torch.nn import functional as F

from videopure.purifier import Guidance, Recogniser
from videopure.purifier.flow import DISFlow
from videopure.purifier.guidance import resize_flow
from videopure.purifier.stopwatch import Stopwatch

__all__ = ["PublishedAnswer", "PublishedSchedule"]

SCALE_UP, SCALE_DOWN = 7.5, 9.0  # classifier-free guidance, for inversion and for denoising


@dataclass(frozen=True)
class PublishedAnswer:
    """The answer for one clip.

    Args:
        label_id: the voted label.
        labels: those of the candidates, from the highest noise level to the final latents.
        latents: the candidates, [K + 1, C, T, h, w].
        timing_ms: milliseconds by stage.
    """

    label_id: int
    labels: list[int]
    latents: Tensor
    timing_ms: dict[str, float]


class PublishedSchedule:
    """The published procedure on the modules of a pipeline.

    Args:
        vae, unet, scheduler: as diffusers loads them.
        prompt: embedding of the empty prompt, [1, L, D].
        factor: pixels along one side of a latent pixel.
        recogniser: casts the votes.
        inversion_steps: the paper's t.
        guidance: weights of the guided update.
    """

    def __init__(
        self,
        vae: Any,
        unet: Any,
        scheduler: DDIMScheduler,
        prompt: Tensor,
        factor: int,
        recogniser: Recogniser,
        inversion_steps: int,
        guidance: Guidance,
    ) -> None:
        self.vae, self.unet, self.recogniser = vae, unet, recogniser
        self.prompt, self.factor, self.guidance = prompt, factor, guidance
        self.down = DDIMScheduler.from_config(scheduler.config)
        self.up = DDIMInverseScheduler.from_config(scheduler.config)
        self.down.set_timesteps(50)
        self.up.set_timesteps(50)
        self.count = inversion_steps + 1
        self.flow_estimator = DISFlow()

    @torch.no_grad()
    def answer(self, clip: Tensor, flow: Tensor | None = None) -> PublishedAnswer:
        """Purify one clip [1, T, 3, H, W] in 0..1 and vote on it.

        Its flow [1, T-1, 2, H, W] is estimated if None.
        """
        watch = Stopwatch(clip.device)
        with watch.measure("flow"):
            pixels = self.flow_estimator(clip) if flow is None else flow
            size = clip.shape[-2] // self.factor, clip.shape[-1] // self.factor
            latent_flow = resize_flow(pixels, size)[0]  # [T-1, 2, h, w]
        with watch.measure("encode"):
            encoded = self.encode(clip[0])
        with watch.measure("invert"):
            noisy = self.invert(encoded)
        with watch.measure("denoise"):
            candidates = torch.cat(list(self.denoise(noisy, encoded, latent_flow)))
        with watch.measure("vote"):
            logits = [self.recogniser.logits(self.decode(z)[None]) for z in candidates]
            labels = torch.cat(logits).argmax(dim=1)
            winner = int(labels.bincount(minlength=logits[0].shape[1]).argmax())
        return PublishedAnswer(winner, labels.tolist(), candidates, watch.milliseconds)

    def encode(self, frames: Tensor) -> Tensor:
        """Latents [1, C, T, h, w] of frames [T, 3, H, W], one frame at a time."""
        latents = []
        for frame in frames.split(1):
            encoded = self.vae.encode(frame * 2 - 1)
            latents.append(
                encoded.latent_dist.mean if "latent_dist" in encoded else encoded.latents
            )
        scaled = torch.cat(latents) * self.vae.config.scaling_factor
        return scaled.transpose(0, 1)[None]  # [1, C, T, h, w]

    def decode(self, latents: Tensor) -> Tensor:
        """Frames [T, 3, H, W] in 0..1 of latents [C, T, h, w], one frame at a time."""
        unscaled = latents.transpose(0, 1) / self.vae.config.scaling_factor  # [T, C, h, w]
        frames = [self.vae.decode(frame).sample for frame in unscaled.split(1)]
        return (torch.cat(frames) / 2 + 0.5).clamp(0, 1)

    def predict_noise(self, latents: Tensor, timestep: int, scale: float) -> Tensor:
        """Classifier-free guidance from two calls, both on the empty prompt."""
        doubled, prompts = torch.cat([latents] * 2), torch.cat([self.prompt] * 2)
        noise = self.unet(doubled, timestep, encoder_hidden_states=prompts).sample
        unconditional, conditional = noise.chunk(2)
        guided: Tensor = unconditional + scale * (conditional - unconditional)
        return guided

    def invert(self, encoded: Tensor) -> Tensor:
        """Temporal DDIM inversion: the first frame's noise for all frames."""
        latents = encoded
        for timestep in self.up.timesteps[: self.count].tolist():
            noise = self.predict_noise(latents, timestep, SCALE_UP)
            noise = noise[:, :, :1].expand_as(noise).contiguous()
            latents = self.up.step(noise, timestep, latents).prev_sample
        return latents

    def denoise(self, latents: Tensor, encoded: Tensor, flow: Tensor) -> Iterator[Tensor]:
        """The K + 1 candidates, [1, C, T, h, w] each."""
        for timestep in self.down.timesteps[-self.count :].tolist():
            noise = self.predict_noise(latents, timestep, SCALE_DOWN)
            alpha, variance = self._level(timestep)
            guided = self.guide(latents, noise, encoded, flow, alpha, variance)
            yield self.down.step(noise, timestep, guided).pred_original_sample
            latents = self.down.step(noise, timestep, latents).prev_sample
        yield self.guide(latents, noise, encoded, flow, alpha, variance)

    def _level(self, timestep: int) -> tuple[Tensor, Tensor]:
        """Cumulative alpha at a train step, and the variance of the DDIM step from there."""
        stride = self.down.config.num_train_timesteps // self.down.num_inference_steps
        below = timestep - stride
        alphas = self.down.alphas_cumprod
        alpha = alphas[timestep]
        following = alphas[below] if below >= 0 else self.down.final_alpha_cumprod
        variance = (1 - following) / (1 - alpha) * (1 - alpha / following)
        return alpha, variance.clamp_min(1e-20)

    def guide(
        self,
        latents: Tensor,
        noise: Tensor,
        encoded: Tensor,
        flow: Tensor,
        alpha: Tensor,
        variance: Tensor,
    ) -> Tensor:
        """One step of gradient ascent on fidelity minus inconsistency, by autograd."""
        weights = self.guidance
        clip_elements, frame_elements = weights.element_counts(latents)
        with torch.enable_grad():
            moved = latents.detach().requires_grad_()
            x0 = (moved - (1 - alpha).sqrt() * noise) / alpha.sqrt()
            warped = _warp(x0[0, :, 1:].detach().transpose(0, 1), flow)  # [T-1, C, h, w]
            apart = (warped.transpose(0, 1) - x0[0, :, :-1]).abs().sum() / frame_elements
            away = ((x0 - encoded) ** 2).sum() / clip_elements
            loss = weights.fidelity * away - weights.consistency * apart
            (gradient,) = torch.autograd.grad(loss, moved)
        return latents + weights.scale * variance.log() * gradient


def _warp(frames: Tensor, flow: Tensor) -> Tensor:
    """Frames [N, C, h, w] sampled where their flow [N, 2, h, w] points, zero outside."""
    height, width = frames.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([x, y]).to(flow) + flow
    size = flow.new_tensor([width - 1, height - 1]).view(2, 1, 1)
    grid = (2 * place / size - 1).permute(0, 2, 3, 1)  # [N, h, w, 2]
    return F.grid_sample(frames, grid, padding_mode="zeros", align_corners=True)
