"""What transformers behind causal video codecs have in common.

Such a codec compresses time: every latent but the first stands for four frames, and depends on no
frame after them (CogVideoX: on none after its chunk of eight). It takes certain numbers of frames
only, so clips are padded with their last frame for encoding, and cut to length after decoding.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from videopure.purifier.inputs import at_least_float32
from videopure.purifier.models.base import LatentVideoModel
from videopure.purifier.schedule import published_levels

__all__ = ["CausalVideoModel"]


class CausalVideoModel(LatentVideoModel):
    """A transformer on the latents of a codec that compresses time by four.

    Purification visits the noise levels of the published procedure, identified by their ratio of
    noise to signal; the denoiser is called at the time of its own schedule that has this ratio. The
    same step of two schedules can mean quite different amounts of noise.
    """

    folder = "transformer"
    # Frames per latent, except for the first.
    temporal: ClassVar[int] = 4

    @abstractmethod
    def padded(self, frames: int) -> int:
        """The smallest number of frames, at least `frames`, that the codec takes."""

    @abstractmethod
    def normalise(self, latents: Tensor) -> Tensor:
        """Scale the codec's latents [B, C, t, h, w] to those that the denoiser takes."""

    @abstractmethod
    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`."""

    @property
    def noise_levels(self) -> DDIMScheduler:
        """Those of the published procedure."""
        return published_levels()

    def latent_times(self, frames: int) -> list[int]:
        """Every fourth frame; the last latents may stand for padding."""
        count = -(-self.padded(frames) // self.temporal)
        return [min(self.temporal * k, frames - 1) for k in range(count)]

    def encode(self, video: Tensor) -> Tensor:
        """See `LatentVideoModel.encode`; one clip at a time, to limit the codec's memory."""
        missing = self.padded(video.shape[1]) - video.shape[1]
        whole = torch.cat((video, video[:, -1:].expand(-1, missing, -1, -1, -1)), dim=1)
        pixels = (whole.transpose(1, 2) * 2 - 1).to(self.codec.dtype)  # [B, 3, T', H, W]
        parts = [self.call(self._encode, clip) for clip in pixels.split(1)]
        return self.normalise(at_least_float32(torch.cat(parts)))

    def _encode(self, pixels: Tensor) -> Tensor:
        mode: Tensor = self.codec.encode(pixels).latent_dist.mode()
        return mode

    def decode(self, latents: Tensor, frames: int | None = None) -> Tensor:
        """See `LatentVideoModel.decode`; one clip at a time, and each in chunks of time."""
        codes = self.denormalise(latents).to(self.codec.dtype)
        parts = [self.call(lambda z: self.codec.decode(z).sample, clip) for clip in codes.split(1)]
        pixels = (at_least_float32(torch.cat(parts)) / 2 + 0.5).clamp(0, 1)  # [B, 3, T', H, W]
        return pixels.transpose(1, 2)[:, :frames]

    def times(self, time: float | Tensor, sample: Tensor) -> Tensor:
        """The time once for each clip of [B, C, t, h, w], as diffusers' transformers take it."""
        whole = torch.as_tensor(time, device=sample.device, dtype=torch.float32)
        return whole.reshape(-1).expand(len(sample))

    def check_codec(self, temporal_key: str) -> None:
        """See `check`: the codec is one of the family's, and compresses time as expected."""
        found = type(self.codec).__name__
        if found not in self.codecs:
            raise ValueError(f"vae is a {found}; use {' or '.join(self.codecs)}")
        temporal = self.codec.config[temporal_key]
        if temporal != self.temporal:
            raise ValueError(
                f"the vae compresses time by {temporal}, and one by {self.temporal} is needed"
            )
        if self.decoder is not None:
            raise ValueError(
                f"decoder is a {type(self.decoder).__name__}, which decodes single images: this "
                "diffusion model's own vae decodes videos, leave the decoder out"
            )
