"""A video diffusion model on latents: its codec and its noise predictor, called on whole clips."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from videopure.purifier.compatibility import codec_factor, most_frames
from videopure.purifier.cuda_graphs import CUDAGraphs
from videopure.purifier.inputs import at_least_float32
from videopure.purifier.schedule import noise_of_velocity

__all__ = ["LatentVideoPipeline"]

# Frames that pass through the VAE together: enough to keep it busy, few enough for its memory.
VAE_FRAMES = 16


class LatentVideoPipeline(DiffusionPipeline):
    """What `encode`, `decode` and `predict_noise` need of a pipeline: its components."""

    vae: Any
    unet: Any
    scheduler: Any
    prompt_embedding: Any
    decoder: Any  # of the vae's latents, in the place of the vae's own; or None

    # Attacks that compute gradients through everything fit into memory when the activations of
    # each call of a network are computed again on the way back instead of being kept.
    gradient_checkpointing: bool = False
    # On a GPU the UNet's kernels are launched as one where no gradient is wanted; see `CUDAGraphs`.
    cuda_graphs: bool = False
    _graphs: CUDAGraphs | None = None

    @property
    def vae_scale_factor(self) -> int:
        """Pixels along one side of a latent pixel."""
        return codec_factor(self.vae)

    @property
    def max_frames(self) -> int | None:
        """Frames that a clip may have at most; None where any number will do."""
        return most_frames(self.unet)

    def encode(self, video: Tensor) -> Tensor:
        """Latents of clips: [B, T, 3, H, W] in 0..1 -> [B, C, T, h, w], float32.

        The mean of the posterior is taken, so encoding is deterministic.
        """
        pixels = (video.flatten(0, 1) * 2 - 1).to(self.vae.dtype)  # [B*T, 3, H, W]
        parts = [self.checkpointed(self._encode, part) for part in pixels.split(VAE_FRAMES)]
        latents = at_least_float32(torch.cat(parts)) * float(self.vae.config.scaling_factor)
        return latents.unflatten(0, video.shape[:2]).transpose(1, 2)  # [B, C, T, h, w]

    def _encode(self, pixels: Tensor) -> Tensor:
        """Unscaled latents [N, C, h, w] of frames [N, 3, H, W] in -1..1."""
        encoded = self.vae.encode(pixels)
        if "latent_dist" in encoded:
            mode: Tensor = encoded.latent_dist.mode()
            return mode
        latents: Tensor = encoded.latents
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Clips of latents: [B, C, T, h, w] -> [B, T, 3, H, W] in 0..1, float32."""
        codec = self.vae if self.decoder is None else self.decoder
        factor = float(codec.config.scaling_factor)
        frames = latents.transpose(1, 2).flatten(0, 1) / factor  # [B*T, C, h, w]
        parts = [
            self.checkpointed(lambda latents: codec.decode(latents).sample, part)
            for part in frames.to(codec.dtype).split(VAE_FRAMES)
        ]
        pixels = (at_least_float32(torch.cat(parts)) / 2 + 0.5).clamp(0, 1)
        return pixels.unflatten(0, (latents.shape[0], latents.shape[2]))

    def predict_noise(
        self, latents: Tensor, timestep: int, *, keep_activations: bool = False
    ) -> Tensor:
        """The UNet's noise for whole clips [B, C, T, h, w], float32.

        One unconditional call: the published guidance mixes two calls on the same prompt, which
        is the same number (bit for bit in float32) at twice the work. A UNet that predicts
        velocity takes the latents to be at the level of `timestep`, so that level's alpha turns
        its answer into noise. `keep_activations` is for a call that cannot be repeated alike,
        whatever `gradient_checkpointing` says.
        """
        sample = latents.to(self.unet.dtype)
        replayed = self.cuda_graphs and sample.is_cuda and not torch.is_grad_enabled()
        if replayed and not keep_activations:
            if self._graphs is None:
                self._graphs = CUDAGraphs(self._predict)
            output = at_least_float32(self._graphs(sample, timestep))
        else:
            predict = partial(self._predict, timestep=timestep)
            call = predict if keep_activations else partial(self.checkpointed, predict)
            output = at_least_float32(call(sample))
        if self.scheduler.config.prediction_type == "v_prediction":
            alpha = float(self.scheduler.alphas_cumprod[timestep])
            return noise_of_velocity(output, latents, alpha)
        return output

    def _predict(self, sample: Tensor, timestep: int | Tensor) -> Tensor:
        """The UNet's own answer [B, C, T, h, w] to noisy latents of that shape."""
        # AnimateDiff's UNet wants a prompt for every frame, UNet3DConditionModel one for a clip.
        prompts = sample.shape[0] * (1 if self.max_frames is None else sample.shape[2])
        prompt = self.prompt_embedding(prompts).to(self.unet.dtype)
        output: Tensor = self.unet(sample, timestep, encoder_hidden_states=prompt).sample
        return output

    def checkpointed(self, call: Callable[[Tensor], Tensor], argument: Tensor) -> Tensor:
        """`call(argument)`; with `gradient_checkpointing` its activations are not kept."""
        if self.gradient_checkpointing and torch.is_grad_enabled() and argument.requires_grad:
            result: Tensor = checkpoint(call, argument, use_reentrant=False)
            return result
        return call(argument)
