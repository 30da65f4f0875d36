"""The interface that purification needs of a video diffusion model of any family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from diffusers import DDIMScheduler
from torch import Tensor

from videopure.purifier.networks.prompt_embedding import PromptEmbedding, embed_prompt

__all__ = ["Call", "LatentVideoModel", "Network", "Predict"]

# A network as a function of one tensor, and a function that calls it: directly, or so that its
# activations are recomputed in the backward pass; see `LatentVideoPipeline.checkpointed`.
Network = Callable[[Tensor], Tensor]
Call = Callable[[Network, Tensor], Tensor]
# (noisy latents [B, C, t, h, w], the network's own time) -> its output, of the same shape.
Predict = Callable[[Tensor, float], Tensor]


def call(network: Network, argument: Tensor) -> Tensor:
    """A plain call."""
    return network(argument)


class LatentVideoModel(ABC):
    """A diffusion model on latents of videos: its codec and its denoiser, called on whole clips.

    A family is a subclass in a file of its own, and its line in `FAMILIES`. An instance only refers
    to its parts, so it is created where it is needed.

    Args:
        codec: encodes frames to latents, and decodes them.
        denoiser: the network that takes noisy latents.
        scheduler: has the noise schedule that the denoiser was trained on.
        prompt_embedding: the constant text that the denoiser is conditioned on.
        decoder: a faster decoder of the same latents, or None for the codec's own.
        call: calls the codec.
    """

    # Folder of the denoiser in a diffusers pipeline.
    folder: ClassVar[Literal["unet", "transformer"]]
    # Classes that the other parts may have: class -> library that diffusers imports it from.
    codecs: ClassVar[Mapping[str, str]]
    decoders: ClassVar[Mapping[str, str]] = {}
    # Class in transformers of the text encoder with which a build embeds the prompt.
    text_encoder: ClassVar[str]
    # Whether replaying the denoiser's kernels as a CUDA graph was found to work.
    capturable: ClassVar[bool] = False
    # Whether the denoiser has the blocks of a UNet, whose outputs `FeatureReuse` reuses.
    reusable: ClassVar[bool] = False

    def __init__(
        self,
        codec: Any,
        denoiser: Any,
        scheduler: Any,
        prompt_embedding: Any,
        decoder: Any = None,
        call: Call = call,
    ) -> None:
        self.codec = codec
        self.denoiser = denoiser
        self.scheduler = scheduler
        self.prompt_embedding = prompt_embedding
        self.decoder = decoder
        self.call = call

    @staticmethod
    def adopt(scheduler: Any) -> Any:
        """The scheduler that a pipeline keeps, derived from the one that the model comes with.

        Raises:
            ValueError: if the model's noise schedule cannot be derived from it.
        """
        return scheduler

    @staticmethod
    def embed(
        text_encoder: Any, tokenizer: Any, prompt: str = "", config: Any = None
    ) -> PromptEmbedding:
        """Embed a prompt as the family's own pipeline in diffusers does.

        `config` is the denoiser's, which may set the number of tokens.
        """
        return embed_prompt(text_encoder, tokenizer, prompt)

    @property
    @abstractmethod
    def spatial(self) -> int:
        """Pixels along one side of a latent pixel."""

    @property
    def frame_multiple(self) -> int:
        """Height and width of frames must be multiples of this number of pixels."""
        return self.spatial

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels C of the latents."""

    @property
    def max_frames(self) -> int | None:
        """Maximum number of frames of a clip; None for no limit."""
        return None

    @abstractmethod
    def latent_times(self, frames: int) -> list[int]:
        """Index of the frame that each latent represents, in a clip of `frames` frames."""

    @abstractmethod
    def encode(self, video: Tensor) -> Tensor:
        """Latents of clips: [B, T, 3, H, W] in 0..1 -> [B, C, t, h, w], at least float32.

        The mean of the posterior is taken, so encoding is deterministic.
        """

    @abstractmethod
    def decode(self, latents: Tensor, frames: int | None = None) -> Tensor:
        """Clips of latents: [B, C, t, h, w] -> [B, T, 3, H, W] in 0..1, at least float32.

        Args:
            latents: as `encode` returns them.
            frames: T of the encoded clips; None keeps all frames that the latents hold.
        """

    @property
    @abstractmethod
    def noise_levels(self) -> DDIMScheduler:
        """The noise levels that purification visits, as a scheduler."""

    @abstractmethod
    def predict(self, sample: Tensor, time: float | Tensor) -> Tensor:
        """The denoiser's raw output [B, C, t, h, w] for a sample, at the denoiser's own time."""

    @abstractmethod
    def noise(
        self, latents: Tensor, timestep: int, alpha: float, predict: Predict | None = None
    ) -> Tensor:
        """The noise in latents, as the denoiser predicts it.

        Args:
            latents: [B, C, t, h, w], `sqrt(alpha) * x0 + sqrt(1 - alpha) * noise`: variance
                preserving, even if the denoiser was trained otherwise.
            timestep: train step of `noise_levels`.
            alpha: its cumulative alpha, in 0..1.
            predict: calls the denoiser; `self.predict` if None.

        Returns:
            Like `latents`, at least float32.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise ValueError if two parts do not fit, naming the part and the remedy."""

    @property
    def dtype(self) -> Any:
        """The dtype that the denoiser computes in."""
        return self.denoiser.dtype

    def check_channels(self, *names: str) -> None:
        """See `check`: the denoiser's channels match those of the codec's latents."""
        for name in names:
            found = self.denoiser.config[name]
            if found != self.channels:
                raise ValueError(
                    f"{self.folder}.{name} is {found}, but the vae's latents have {self.channels} "
                    f"channels: use the vae that the {self.folder} was trained with, and not a "
                    f"{self.folder} that takes further channels, like those for inpainting"
                )

    def check_prompt(self, features: Any) -> None:
        """See `check`: the prompt embedding has the number of features that the denoiser takes."""
        found = self.prompt_embedding.config.dim
        if isinstance(features, int) and found != features:
            raise ValueError(
                f"prompt_embedding has {found} features, but the {self.folder} takes {features}: "
                f"embed the prompt with the text encoder that the {self.folder} was trained with"
            )
