"""A pipeline of a video diffusion model on latents: how its networks are called and kept."""

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
    decoder: Any  # of the vae's latents, in the place of the vae's own; or None

    # Attacks that compute gradients through everything fit into memory when the activations of
    # each call of a network are computed again on the way back instead of being kept.
    gradient_checkpointing: bool = False
    # On a GPU the denoiser's kernels are launched as one where no gradient is wanted; see
    # `CUDAGraphs`.
    cuda_graphs: bool = False
    _graphs: CUDAGraphs | None = None
    _family: type[LatentVideoModel]

    @property
    def denoiser(self) -> Any:
        """The network that predicts noise, whichever folder it lies in."""
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
        """Pixels that the height and the width of frames must be multiples of."""
        return self.model.frame_multiple

    @property
    def max_frames(self) -> int | None:
        """Frames that a clip may have at most; None where any number will do."""
        return self.model.max_frames

    def encode(self, video: Tensor) -> Tensor:
        """Latents of clips: [B, T, 3, H, W] in 0..1 -> [B, C, t, h, w], float32.

        The mean of the posterior is taken, so encoding is deterministic.
        """
        return self.model.encode(video)

    def decode(self, latents: Tensor, frames: int | None = None) -> Tensor:
        """Clips of latents: [B, C, t, h, w] -> [B, T, 3, H, W] in 0..1, float32.

        `frames` is the T of the clips that were encoded: a codec that compresses time fills them up
        to what it takes. None keeps what was filled up.
        """
        return self.model.decode(latents, frames)

    def predict_noise(
        self, latents: Tensor, timestep: int, *, keep_activations: bool = False
    ) -> Tensor:
        """The denoiser's noise for whole clips [B, C, t, h, w], float32.

        One unconditional call: the published guidance mixes two calls on the same prompt, which
        is the same number (bit for bit in float32) at twice the work. `keep_activations` is for a
        call that cannot be repeated alike, whatever `gradient_checkpointing` says.
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
