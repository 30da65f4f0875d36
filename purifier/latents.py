"""The pipeline of a latent video diffusion model: how its networks are stored and called."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from videopure.purifier.cuda_graphs import CUDAGraphs
from videopure.purifier.models import LatentVideoModel

__all__ = ["LatentVideoPipeline"]


class LatentVideoPipeline(DiffusionPipeline):
    """`encode`, `decode` and `predict_noise` of a pipeline's components, whatever their family."""

    vae: Any
    unet: Any  # or None
    transformer: Any  # or None
    scheduler: Any
    prompt_embedding: Any
    decoder: Any  # replaces the vae's own decoder; or None

    # Attacks compute gradients through everything, which fits into memory if the activations of
    # each network call are recomputed in the backward pass instead of kept.
    gradient_checkpointing: bool = False
    # On a GPU, launch the denoiser's kernels together where no gradient is needed; see
    # `CUDAGraphs`.
    cuda_graphs: bool = False
    _graphs: CUDAGraphs | None = None
    _family: type[LatentVideoModel]

    @property
    def denoiser(self) -> Any:
        """The network that predicts noise, `unet` or `transformer`."""
        return getattr(self, self._family.folder)

    @property
    def model(self) -> LatentVideoModel:
        """The components as purification sees them."""
        return self._family(
            self.vae,
            self.denoiser,
            self.scheduler,
            self.prompt_embedding,
            self.decoder,
            self.checkpointed,
        )

    @property
    def vae_scale_factor(self) -> int:
        """Pixels along one side of a latent pixel."""
        return self.model.spatial

    @property
    def frame_multiple(self) -> int:
        """Height and width of frames must be multiples of this number of pixels."""
        return self.model.frame_multiple

    @property
    def max_frames(self) -> int | None:
        """Maximum number of frames of a clip; None for no limit."""
        return self.model.max_frames

    def encode(self, video: Tensor) -> Tensor:
        """Latents of clips: [B, T, 3, H, W] in 0..1 -> [B, C, t, h, w], float32.

        The mean of the posterior is taken, so encoding is deterministic.
        """
        return self.model.encode(video)

    def decode(self, latents: Tensor, frames: int | None = None) -> Tensor:
        """Clips of latents: [B, C, t, h, w] -> [B, T, 3, H, W] in 0..1, float32.

        `frames` is the T of the encoded clips: a codec that compresses time pads clips to a length
        that it can take. None keeps the padding.
        """
        return self.model.decode(latents, frames)

    def predict_noise(
        self, latents: Tensor, timestep: int, *, keep_activations: bool = False
    ) -> Tensor:
        """The denoiser's noise for whole clips [B, C, t, h, w], float32.

        One unconditional call: the published guidance mixes two calls on the same prompt, which
        gives the same numbers (bit for bit in float32) for twice the work. `keep_activations` is
        for calls that cannot be repeated identically; it overrides `gradient_checkpointing`.
        """
        model = self.model

        def predict(sample: Tensor, time: float) -> Tensor:
            replayed = self.cuda_graphs and model.capturable and not keep_activations
            if replayed and sample.is_cuda and not torch.is_grad_enabled():
                if self._graphs is None:
                    self._graphs = CUDAGraphs(self._predict)
                return self._graphs(sample, time)
            network = partial(self._predict, time=time)
            return network(sample) if keep_activations else self.checkpointed(network, sample)

        alpha = float(model.noise_levels.alphas_cumprod[timestep])
        return model.noise(latents, timestep, alpha, predict)

    def _predict(self, sample: Tensor, time: float | Tensor) -> Tensor:
        return self.model.predict(sample, time)

    def checkpointed(self, call: Callable[[Tensor], Tensor], argument: Tensor) -> Tensor:
        """`call(argument)`; with `gradient_checkpointing` its activations are not kept."""
        if self.gradient_checkpointing and torch.is_grad_enabled() and argument.requires_grad:
            result: Tensor = checkpoint(call, argument, use_reentrant=False)
            return result
        return call(argument)
