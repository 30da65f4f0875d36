"""Family UNet3D: text-to-video-ms-1.7b, zeroscope, and the compact models that are trained here.

Frames pass through an image codec one by one, and there are as many latents as frames.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from videopure.purifier.inputs import at_least_float32
from videopure.purifier.models.base import LatentVideoModel, Predict
from videopure.purifier.networks.patch_codec import PatchCodec
from videopure.purifier.schedule import as_ddim, noise_of_velocity

__all__ = ["UNet3D", "codec_factor"]

PREDICTION_TYPES = ("epsilon", "v_prediction")
# Frames per codec call: enough to keep it busy, few enough to fit into memory.
CODEC_FRAMES = 16


def codec_factor(codec: Any) -> int:
    """Pixels along one side of a latent pixel of an image codec."""
    config = codec.config
    if "patch_size" in config:
        return int(config["patch_size"])
    blocks = config.get("block_out_channels") or config["encoder_block_out_channels"]
    return int(2 ** (len(blocks) - 1))


class UNet3D(LatentVideoModel):
    """`UNet3DConditionModel` behind an image codec."""

    folder = "unet"
    codecs: ClassVar[dict[str, str]] = {
        "AutoencoderKL": "diffusers",
        "AutoencoderTiny": "diffusers",
        "PatchCodec": PatchCodec.__module__,
    }
    decoders: ClassVar[dict[str, str]] = {"AutoencoderTiny": "diffusers"}
    text_encoder = "CLIPTextModel"
    capturable = True
    reusable = True

    @staticmethod
    def adopt(scheduler: Any) -> DDIMScheduler:
        """The DDIM scheduler of the same noise schedule."""
        return as_ddim(scheduler)

    @property
    def spatial(self) -> int:
        """See `LatentVideoModel.spatial`."""
        return codec_factor(self.codec)

    @property
    def channels(self) -> int:
        """See `LatentVideoModel.channels`."""
        return int(self.codec.config.latent_channels)

    def latent_times(self, frames: int) -> list[int]:
        """Every frame has its own latents."""
        return list(range(frames))

    def encode(self, video: Tensor) -> Tensor:
        """See `LatentVideoModel.encode`."""
        pixels = (video.flatten(0, 1) * 2 - 1).to(self.codec.dtype)  # [B*T, 3, H, W]
        parts = [self.call(self._encode, part) for part in pixels.split(CODEC_FRAMES)]
        latents = at_least_float32(torch.cat(parts)) * float(self.codec.config.scaling_factor)
        return latents.unflatten(0, video.shape[:2]).transpose(1, 2)  # [B, C, T, h, w]

    def _encode(self, pixels: Tensor) -> Tensor:
        """Unscaled latents [N, C, h, w] of frames [N, 3, H, W] in -1..1."""
        encoded = self.codec.encode(pixels)
        if "latent_dist" in encoded:
            mode: Tensor = encoded.latent_dist.mode()
            return mode
        latents: Tensor = encoded.latents
        return latents

    def decode(self, latents: Tensor, frames: int | None = None) -> Tensor:
        """See `LatentVideoModel.decode`."""
        codec = self.codec if self.decoder is None else self.decoder
        factor = float(codec.config.scaling_factor)
        images = latents.transpose(1, 2).flatten(0, 1) / factor  # [B*T, C, h, w]
        parts = [
            self.call(lambda latents: codec.decode(latents).sample, part)
            for part in images.to(codec.dtype).split(CODEC_FRAMES)
        ]
        pixels = (at_least_float32(torch.cat(parts)) / 2 + 0.5).clamp(0, 1)
        return pixels.unflatten(0, (latents.shape[0], latents.shape[2]))

    @property
    def noise_levels(self) -> DDIMScheduler:
        """The noise levels that the denoiser was trained on."""
        levels: DDIMScheduler = self.scheduler
        return levels

    def predict(self, sample: Tensor, time: float | Tensor) -> Tensor:
        """See `LatentVideoModel.predict`."""
        prompt = self.prompt_embedding(self.prompts(sample)).to(self.dtype)
        output: Tensor = self.denoiser(sample, time, encoder_hidden_states=prompt).sample
        return output

    def prompts(self, sample: Tensor) -> int:
        """Number of prompts that the UNet takes with latents [B, C, T, h, w]: one per clip."""
        return sample.shape[0]

    def noise(
        self, latents: Tensor, timestep: int, alpha: float, predict: Predict | None = None
    ) -> Tensor:
        """See `LatentVideoModel.noise`.

        A UNet that predicts velocity assumes that latents are at the level of `timestep`, so the
        alpha of that level converts its output to noise.
        """
        output = at_least_float32((predict or self.predict)(latents.to(self.dtype), timestep))
        if self.scheduler.config.prediction_type == "v_prediction":
            return noise_of_velocity(output, latents, alpha)
        return output

    def check(self) -> None:
        """See `LatentVideoModel.check`."""
        prediction = self.scheduler.config.prediction_type
        if prediction not in PREDICTION_TYPES:
            raise ValueError(
                f"scheduler.prediction_type must be one of {', '.join(PREDICTION_TYPES)}, got "
                f"{prediction!r}"
            )
        self.check_channels("in_channels", "out_channels")
        self.check_prompt(self.denoiser.config.cross_attention_dim)
        if self.decoder is None:
            return
        taken = int(self.decoder.config.latent_channels)
        if (taken, codec_factor(self.decoder)) != (self.channels, self.spatial):
            raise ValueError(
                f"decoder takes {taken} channels and enlarges by {codec_factor(self.decoder)}, but "
                f"the vae's latents have {self.channels} and shrink by {self.spatial}: use a "
                "decoder distilled from this vae"
            )
