"""Family CogVideoX: CogVideoX-2B, a transformer that predicts velocity.

Its noise schedule is that of Stable Diffusion with the signal-to-noise ratio shifted, so that the
same step holds more noise; see `CausalVideoModel` for how levels are chosen.
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
        """See `LatentVideoModel.adopt`: one that knows the shifted ratio."""
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
        """As `CogVideoXPipeline.encode_prompt`: padding is read as text is."""
        return embed_prompt(text_encoder, tokenizer, prompt, length=config["max_text_seq_length"])

    @property
    def spatial(self) -> int:
        """See `LatentVideoModel.spatial`."""
        return int(2 ** (len(self.codec.config.block_out_channels) - 1))

    @property
    def frame_multiple(self) -> int:
        """Of the transformer's patches of latent pixels, too."""
        return self.spatial * int(self.denoiser.config.patch_size)

    @property
    def channels(self) -> int:
        """See `LatentVideoModel.channels`."""
        return int(self.codec.config.latent_channels)

    def padded(self, frames: int) -> int:
        """A multiple of eight, with one frame before it or none: what the codec works through."""
        chunk = 2 * self.temporal
        return frames if frames % chunk < 2 and frames >= chunk else -(-frames // chunk) * chunk

    def normalise(self, latents: Tensor) -> Tensor:
        """Scaled."""
        return latents * float(self.codec.config.scaling_factor)

    def denormalise(self, latents: Tensor) -> Tensor:
        """The other way round."""
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

        Latents with less noise than the model ever saw are shown to it as its cleanest.
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
    """The step, perhaps between two, at which falling `alphas` have the noise ratio of `alpha`."""
    known = alphas[alphas > 0]  # the last one may be all noise
    ratios = np.log((1 - known) / known)
    return float(np.interp(np.log((1 - alpha) / alpha), ratios, np.arange(len(known))))
