"""Family Wan: Wan 2.1 and 2.2, transformers that were trained with flow matching.

Flow matching interpolates linearly between clean latents and noise, `x = (1 - s) x0 + s e`, and
predicts `v = e - x0` (arXiv 2210.02747, 2209.03003). The noise is therefore `x + (1 - s) v`.
Divided by `sqrt((1 - s)^2 + s^2)`, x is a sample of variance-preserving diffusion at
`alpha = (1 - s)^2 / ((1 - s)^2 + s^2)`. The sampler's time shift only moves its steps; the
transformer itself is given s, in 0..1000.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from videopure.purifier.inputs import at_least_float32
from videopure.purifier.models.base import Predict
from videopure.purifier.models.causal import CausalVideoModel
from videopure.purifier.networks.prompt_embedding import PromptEmbedding, embed_prompt
from videopure.purifier.schedule import BETA_SCHEDULERS, flow_time

__all__ = ["Wan"]

# Tokens of the embedded prompt; those after its end are zero.
TOKENS = 512


class Wan(CausalVideoModel):
    """`WanTransformer3DModel` behind an `AutoencoderKLWan`."""

    codecs: ClassVar[dict[str, str]] = {"AutoencoderKLWan": "diffusers"}
    text_encoder = "UMT5EncoderModel"
    capturable = True

    @staticmethod
    def adopt(scheduler: Any) -> Any:
        """See `LatentVideoModel.adopt`: a scheduler of flow matching."""
        config = scheduler.config
        name = config.get("_class_name") or type(scheduler).__name__
        flow = config.get("use_flow_sigmas") and name in BETA_SCHEDULERS
        if name != "FlowMatchEulerDiscreteScheduler" and not flow:
            raise ValueError(
                f"scheduler is a {name} that is not set to flow matching, which Wan is trained "
                "with: use the one that it comes with"
            )
        return scheduler

    @staticmethod
    def embed(
        text_encoder: Any, tokenizer: Any, prompt: str = "", config: Any = None
    ) -> PromptEmbedding:
        """As `WanPipeline.encode_prompt`: padding is masked, and its embeddings are zero."""
        return embed_prompt(text_encoder, tokenizer, prompt, length=TOKENS, masked=True)

    @property
    def spatial(self) -> int:
        """See `LatentVideoModel.spatial`."""
        return int(self.codec.config.scale_factor_spatial)

    @property
    def frame_multiple(self) -> int:
        """Includes the size of the transformer's patches of latent pixels."""
        return self.spatial * int(self.denoiser.config.patch_size[1])

    @property
    def channels(self) -> int:
        """See `LatentVideoModel.channels`."""
        return int(self.codec.config.z_dim)

    def padded(self, frames: int) -> int:
        """One more than a multiple of four: the codec drops any further frames."""
        return -(-(frames - 1) // self.temporal) * self.temporal + 1

    def normalise(self, latents: Tensor) -> Tensor:
        """Normalise each channel to mean 0 and standard deviation 1."""
        mean, std = self._statistics(latents)
        return (latents - mean) / std

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        config = self.codec.config
        mean, std = (latents.new_tensor(v) for v in (config.latents_mean, config.latents_std))
        return mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)

    def predict(self, sample: Tensor, time: float | Tensor) -> Tensor:
        """See `LatentVideoModel.predict`; returns a velocity."""
        velocity: Tensor = self.denoiser(
            hidden_states=sample,
            timestep=self.times(time, sample),
            encoder_hidden_states=self.prompt_embedding(len(sample)).to(self.dtype),
        ).sample
        return velocity

    def noise(
        self, latents: Tensor, timestep: int, alpha: float, predict: Predict | None = None
    ) -> Tensor:
        """See `LatentVideoModel.noise`."""
        time = flow_time(alpha)
        mixed = latents * ((1 - time) ** 2 + time**2) ** 0.5
        steps = self.scheduler.config.num_train_timesteps
        velocity = (predict or self.predict)(mixed.to(self.dtype), time * steps)
        return mixed + (1 - time) * at_least_float32(velocity)

    def check(self) -> None:
        """See `LatentVideoModel.check`."""
        self.check_codec("scale_factor_temporal")
        self.check_channels("in_channels", "out_channels")
        self.check_prompt(self.denoiser.config.text_dim)
        for name in ("latents_mean", "latents_std"):
            if len(self.codec.config[name]) != self.channels:
                raise ValueError(
                    f"vae.{name} must hold a number for each of the {self.channels} channels of "
                    f"its latents, got {len(self.codec.config[name])}"
                )
        if self.denoiser.config.image_dim is not None:
            raise ValueError(
                "transformer.image_dim must be None: a Wan that animates an image cannot purify "
                "clips, use one for text to video"
            )
        if self.denoiser.config.patch_size[0] != 1:
            raise ValueError(
                "transformer.patch_size must take every latent in time separately, got "
                f"{list(self.denoiser.config.patch_size)}"
            )
