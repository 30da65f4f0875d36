"""A latent codec of principal components: nearly lossless, without a network to train."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin  # diffusers finds its loader by this name
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PatchCodec"]


class PatchCodec(ModelMixin, ConfigMixin):
    """Projects square patches of pixels onto their leading principal components and back.

    It has the interface of `AutoencoderTiny`. The components are orthonormal, so decoding is the
    transposed projection.

    Args:
        patch_size: pixels along one side of a patch, and of a latent pixel.
        latent_channels: components kept, at most `3 * patch_size**2`.
        scaling_factor: latents are multiplied by this for the diffusion model.
    """

    @register_to_config
    def __init__(
        self, patch_size: int = 4, latent_channels: int = 16, scaling_factor: float = 1.0
    ) -> None:
        super().__init__()
        values = 3 * patch_size**2
        if not 1 <= latent_channels <= values:
            raise ValueError(f"latent_channels must be in 1..{values}, got {latent_channels}")
        self.mean = nn.Parameter(torch.zeros(values))
        self.components = nn.Parameter(torch.eye(latent_channels, values))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Set the components to the principal components of images [N, 3, H, W] in -1..1."""
        patches = self._patches(images).double()
        mean = patches.mean(dim=0)
        centred = patches - mean
        _, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))  # ascending
        leading = vectors.flip(1)[:, : self.config.latent_channels].T
        self.mean.copy_(mean)
        self.components.copy_(leading)

    def encode(self, x: Tensor) -> AutoencoderTinyOutput:
        """Latents [N, C, h, w] of images [N, 3, H, W] in -1..1."""
        size = self.config.patch_size
        if x.shape[-2] % size or x.shape[-1] % size:
            raise ValueError(
                f"image height and width must be multiples of {size}, got "
                f"{x.shape[-2]}x{x.shape[-1]}"
            )
        kernel = self.components.unflatten(1, (3, size, size))
        bias = -(self.components @ self.mean)
        return AutoencoderTinyOutput(latents=F.conv2d(x, kernel, bias, stride=size))

    def decode(self, z: Tensor) -> DecoderOutput:
        """Images [N, 3, H, W] of latents [N, C, h, w]; not clamped."""
        size = self.config.patch_size
        kernel = self.components.unflatten(1, (3, size, size))
        mean = self.mean.unflatten(0, (3, size, size)).repeat(1, z.shape[-2], z.shape[-1])
        return DecoderOutput(sample=F.conv_transpose2d(z, kernel, stride=size) + mean)

    def forward(self, sample: Tensor) -> DecoderOutput:
        """Encode and decode."""
        return self.decode(self.encode(sample).latents)

    def _patches(self, images: Tensor) -> Tensor:
        """All patches of images, flattened: [N * h * w, 3 * patch_size**2]."""
        size = self.config.patch_size
        return F.unfold(images, size, stride=size).transpose(1, 2).flatten(0, 1)
