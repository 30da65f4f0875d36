"""Family CogVideoX: CogVideoX-2B, a transformer that predicts velocity.

Its noise schedule is that of Stable Diffusion with a shifted signal-to-noise ratio: the same step
has more noise. See `CausalVideoModel` for how levels are chosen.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from videopure.purifier.inputs import at_least_float32
from videopure.purifier.models.base import Predict
from videopure.purifier.models.causal import CausalVideoModel
from videopure.purifier.networks.prompt_embedding import PromptEmbedding, embed_prompt
from videopure.purifier.schedule import noise_of_velocity

__all__ = ["CogVideoX"]

SCHEDULERS = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")


class CogVideoX(CausalVideoModel):
    """`CogVideoXTransformer3DModel` behind an `AutoencoderKLCogVideoX`."""

    codecs: ClassVar[dict[str, str]] = {"AutoencoderKLCogVideoX": "diffusers"}
    text_encoder = "T5EncoderModel"

    @staticmethod
    def adopt(scheduler: Any) -> Any:
        """See `LatentVideoModel.adopt`: a scheduler with the shifted ratio."""
        name = scheduler.config.get("_class_name") or type(scheduler).__name__
        prediction = scheduler.config.get("prediction_type")
        if name not in SCHEDULERS or prediction not in ("v_prediction", "epsilon"):
            raise ValueError(
                f"scheduler is a {name} of prediction_type {prediction!r}; CogVideoX needs "
                f"{' or '.join(SCHEDULERS)}, of v_prediction or epsilon"
            )
        return scheduler

    @staticmethod
    def embed(
        text_encoder: Any, tokenizer: Any, prompt: str = "", config: Any = None
    ) -> PromptEmbedding:
        """As `CogVideoXPipeline.encode_prompt`: padding is not masked."""
        return embed_prompt(text_encoder, tokenizer, prompt, length=config["max_text_seq_length"])

    @property
    def spatial(self) -> int:
        """See `LatentVideoModel.spatial`."""
        return int(2 ** (len(self.codec.config.block_out_channels) - 1))

    @property
    def frame_multiple(self) -> int:
        """Includes the size of the transformer's patches of latent pixels."""
        return self.spatial * int(self.denoiser.config.patch_size)

    @property
    def channels(self) -> int:
        """See `LatentVideoModel.channels`."""
        return int(self.codec.config.latent_channels)

    def padded(self, frames: int) -> int:
        """A multiple of eight, or one frame more: the codec works in chunks of eight."""
        chunk = 2 * self.temporal
        return frames if frames % chunk < 2 and frames >= chunk else -(-frames // chunk) * chunk

    def normalise(self, latents: Tensor) -> Tensor:
        """Scale by the codec's factor."""
        return latents * float(self.codec.config.scaling_factor)

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return latents / float(self.codec.config.scaling_factor)

    def predict(self, sample: Tensor, time: float | Tensor) -> Tensor:
        """See `LatentVideoModel.predict`."""
        output: Tensor = self.denoiser(
            hidden_states=sample.transpose(1, 2),  # [B, t, C, h, w]
            timestep=self.times(time, sample),
            encoder_hidden_states=self.prompt_embedding(len(sample)).to(self.dtype),
        ).sample
        return output.transpose(1, 2)

    def noise(
        self, latents: Tensor, timestep: int, alpha: float, predict: Predict | None = None
    ) -> Tensor:
        """See `LatentVideoModel.noise`.

        Latents with less noise than the model was trained on are treated as its lowest level.
        """
        alphas = self.scheduler.alphas_cumprod.double().numpy()
        alpha = min(alpha, float(alphas[0]))
        time = _time_of(alpha, alphas)
        output = at_least_float32((predict or self.predict)(latents.to(self.dtype), time))
        if self.scheduler.config.prediction_type == "v_prediction":
            return noise_of_velocity(output, latents, alpha)
        return output

    def check(self) -> None:
        """See `LatentVideoModel.check`."""
        config = self.denoiser.config
        self.check_codec("temporal_compression_ratio")
        self.check_channels("in_channels", "out_channels")
        self.check_prompt(config.text_embed_dim)
        if self.prompt_embedding.config.length != config.max_text_seq_length:
            raise ValueError(
                f"prompt_embedding has {self.prompt_embedding.config.length} tokens, but the "
                f"transformer takes {config.max_text_seq_length}: embed the prompt again"
            )
        for key, wanted in (("use_rotary_positional_embeddings", False), ("patch_size_t", None)):
            if config[key] != wanted:
                raise ValueError(
                    f"transformer.{key} must be {wanted}, got {config[key]!r}: of this family "
                    "CogVideoX-2B is supported, not CogVideoX-5B and CogVideoX 1.5"
                )
        if self.codec.config.invert_scale_latents:
            raise ValueError("vae.invert_scale_latents must be False, as that of CogVideoX-2B is")


def _time_of(alpha: float, alphas: np.ndarray) -> float:
    """The step, which may be fractional, where decreasing `alphas` have the ratio of `alpha`."""
    known = alphas[alphas > 0]  # the last one may be pure noise
    ratios = np.log((1 - known) / known)
    return float(np.interp(np.log((1 - alpha) / alpha), ratios, np.arange(len(known))))
