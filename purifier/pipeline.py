"""VideoPure (arXiv 2501.14999): purification of video clips with a video diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMInverseScheduler
from torch import Tensor

from videopure.purifier.convolutions import use_onednn
from videopure.purifier.flow import DISFlow, FlowEstimator
from videopure.purifier.guidance import PUBLISHED_SHAPE, Guidance, resize_flow
from videopure.purifier.inputs import as_batch, check_flow, check_video
from videopure.purifier.latents import LatentVideoPipeline
from videopure.purifier.methods import METHODS, PURIFICATIONS, Candidate, Method
from videopure.purifier.models import find_family
from videopure.purifier.networks.prompt_embedding import PromptEmbedding
from videopure.purifier.one_look import OneLook
from videopure.purifier.output import VideoPureOutput
from videopure.purifier.randomisation import Generators, Randomisation
from videopure.purifier.sampling import (
    DenoisingStep,
    OnStep,
    PredictNoise,
    ddim_guided,
    ddim_inversion,
    keep,
)
from videopure.purifier.schedule import Schedule
from videopure.purifier.settings import PurifySettings
from videopure.purifier.shortcuts import FeatureReuse, Shortcuts

__all__ = ["VideoPureOutput", "VideoPurePipeline"]

DETERMINISTIC = Randomisation()
NO_SHORTCUTS = Shortcuts()
LOOK = OneLook()

StepCallback = Callable[["VideoPurePipeline", int, int, dict[str, Tensor]], dict[str, Tensor]]


class VideoPurePipeline(LatentVideoPipeline):
    """Purifies clips; loads any text-to-video folder of the families in `FAMILIES`.

    The lifecycle is `encode`, `invert`, `denoise`, `decode`, each usable alone. They keep
    gradients; calling the pipeline does not.

    Args:
        vae: codec of the frames.
        unet, transformer: the video diffusion model; the other one is None.
        scheduler: the noise schedule, and what the model predicts. A UNet's scheduler that is not
            DDIM is replaced by a DDIM scheduler of the same configuration.
        inverse_scheduler: derived from `scheduler` when None.
        text_encoder, tokenizer: used once, for the constant prompt embedding, and not kept.
        prompt_embedding: the stored embedding; makes the two above unnecessary.
        decoder: a faster decoder of the same latents, used instead of the vae's own.
    """

    model_cpu_offload_seq = "prompt_embedding->unet->transformer->vae->decoder"
    _optional_components = [  # noqa: RUF012
        "unet",
        "transformer",
        "inverse_scheduler",
        "text_encoder",
        "tokenizer",
        "prompt_embedding",
        "decoder",
    ]
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(
        self,
        vae: Any,
        unet: Any,
        scheduler: Any,
        inverse_scheduler: DDIMInverseScheduler | None = None,
        text_encoder: Any = None,
        tokenizer: Any = None,
        prompt_embedding: PromptEmbedding | None = None,
        decoder: AutoencoderTiny | None = None,
        transformer: Any = None,
    ) -> None:
        super().__init__()
        denoiser = transformer if unet is None else unet
        if denoiser is None or (unet is not None and transformer is not None):
            raise ValueError(
                f"either unet or transformer is needed, got {type(unet).__name__} and "
                f"{type(transformer).__name__}"
            )
        self._family = find_family(denoiser)
        if prompt_embedding is None:
            if text_encoder is None or tokenizer is None:
                raise ValueError(
                    "prompt_embedding is None: give it, or a text_encoder and a tokenizer to "
                    "compute it from"
                )
            prompt_embedding = self._family.embed(text_encoder, tokenizer, config=denoiser.config)
        self.register_modules(
            vae=vae,
            unet=unet,
            transformer=transformer,
            scheduler=self._family.adopt(scheduler),
            inverse_scheduler=inverse_scheduler,
            text_encoder=None,
            tokenizer=None,
            prompt_embedding=prompt_embedding,
            decoder=decoder,
        )
        self.model.check()
        use_onednn(denoiser)
        self.flow_estimator: FlowEstimator = DISFlow()

    def schedule(self, inversion_steps: int = 5, num_inference_steps: int = 50) -> Schedule:
        """The noise levels to visit; see `Schedule`."""
        noise_levels = self.model.noise_levels
        train_steps = noise_levels.config.num_train_timesteps
        if not 1 <= num_inference_steps <= train_steps:
            raise ValueError(
                f"num_inference_steps must be in 1..{train_steps}, got {num_inference_steps}"
            )
        if not 0 <= inversion_steps < num_inference_steps:
            raise ValueError(
                f"inversion_steps must be in 0..{num_inference_steps - 1} (below "
                f"num_inference_steps), got {inversion_steps}"
            )
        return Schedule(noise_levels, self.inverse_scheduler, inversion_steps, num_inference_steps)

    def check_inputs(self, video: Tensor, method: str, output_type: str) -> None:
        """Raise ValueError for a clip or an argument that cannot be purified."""
        check_video(video, self.frame_multiple, self.max_frames)
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if output_type not in ("pt", "np", "latent"):
            raise ValueError(f"output_type must be one of pt, np, latent, got {output_type!r}")

    def estimate_flow(self, video: Tensor, flow: Tensor | FlowEstimator | None = None) -> Tensor:
        """Optical flow of the clips on the latent grid, [B, t-1, 2, h, w] in latent pixels.

        Args:
            video: [B, T, 3, H, W] in 0..1.
            flow: [B, t-1, 2, H, W], (dx, dy) in pixels, between the frames that neighbouring
                latents stand for: all T of them, unless the codec compresses time; or an
                estimator; or None for `self.flow_estimator`.
        """
        if flow is None:
            flow = self.flow_estimator
        video = self.shown_by_latents(video)
        full = flow if isinstance(flow, Tensor) else flow(video)
        check_flow(full, video)
        height, width = video.shape[-2:]
        factor = self.vae_scale_factor
        full = full.to(device=video.device, dtype=torch.float32)
        return resize_flow(full, (height // factor, width // factor))

    def shown_by_latents(self, video: Tensor) -> Tensor:
        """The frames [B, t, 3, H, W] of clips [B, T, 3, H, W] that their latents stand for."""
        times = self.model.latent_times(video.shape[1])
        return video if times == list(range(video.shape[1])) else video[:, times]

    def invert(
        self,
        latents: Tensor,
        schedule: Schedule,
        *,
        temporal: bool = True,
        anchor: Tensor | None = None,
        shortcuts: Shortcuts = NO_SHORTCUTS,
        on_step: OnStep = keep,
    ) -> list[Tensor]:
        """Latents [B, C, T, h, w] at each noise level on the way up; see `ddim_inversion`."""
        return ddim_inversion(
            latents,
            self.predict_noise,
            schedule,
            temporal=temporal,
            anchor=anchor,
            frames=shortcuts.inversion_frames,
            jump=shortcuts.inversion_jump,
            on_step=on_step,
        )

    def denoise(
        self,
        latents: Tensor,
        encoded: Tensor,
        flow: Tensor,
        schedule: Schedule,
        guidance: Guidance,
        *,
        eta: float = 0.0,
        draw: Callable[[], Tensor] | None = None,
        shortcuts: Shortcuts = NO_SHORTCUTS,
        on_step: OnStep = keep,
    ) -> Iterator[DenoisingStep]:
        """Guided candidates on the way down; see `ddim_guided`.

        `latents` are the inverted latents, `encoded` those of the clip, both [B, C, T, h, w];
        `flow` is [B, T-1, 2, h, w] in latent pixels.
        """
        predict_noise: PredictNoise = self.predict_noise
        if shortcuts.feature_interval > 1 and self.model.reusable:
            whole = partial(self.predict_noise, keep_activations=True)
            interval, levels = shortcuts.feature_interval, shortcuts.feature_levels
            predict_noise = FeatureReuse(self.denoiser, whole, interval, levels)
        every = len(schedule.timesteps_down) + 1
        return ddim_guided(
            latents,
            encoded,
            flow,
            predict_noise,
            schedule,
            guidance,
            eta=eta,
            draw=draw,
            skip=every - shortcuts.voters(every),
            on_step=on_step,
        )

    @torch.no_grad()
    def __call__(
        self,
        video: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
        flow: Tensor | FlowEstimator | None = None,
        inversion_steps: int = 5,
        num_inference_steps: int = 50,
        guidance_reference: tuple[int, int, int, int] | None = PUBLISHED_SHAPE,
        method: Method = "videopure",
        generator: Generators = None,
        output_type: Literal["pt", "np", "latent"] = "pt",
        randomisation: Randomisation = DETERMINISTIC,
        look: OneLook = LOOK,
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
    ) -> VideoPureOutput | tuple[Any, ...]:
        """Purify clips.

        Args:
            video: tensor or array [B, T, 3, H, W] in 0..1, or a list of clips [T, 3, H, W]; T at
                least 2, H and W multiples of `frame_multiple`.
            flow: see `estimate_flow`.
            inversion_steps: the paper's t; t + 1 steps are taken each way.
            num_inference_steps: steps of the full schedule; only the lowest are visited.
            guidance_reference: see `Guidance.reference`.
            method: `videopure`; `one_look`, a single step; or one of the methods that the paper
                compares with, `ddim_inversion`, `ddim` and `ddpm`.
            generator: source of noise for `ddim`, `ddpm` and `randomisation`; one, or one per
                clip.
            output_type: `pt`, `np` or `latent`.
            randomisation: `fresh_noise`, `eta` and `random_anchor` of `videopure`; the others are
                for `DefendedRecogniser`, where clips may differ in them.
            look: settings of method `one_look`.
            return_dict: False returns a tuple.
            callback_on_step_end: called as `(pipeline, index, timestep, {"latents": ...})` after
                each step of `videopure`; may return changed latents.

        Raises:
            ValueError: naming the argument and the value that cannot be used.
        """
        clips = as_batch(video).to(self._execution_device)
        self.check_inputs(clips, method, output_type)
        if isinstance(flow, Tensor):
            check_flow(flow, self.shown_by_latents(clips))
        if randomisation.step_range is not None or randomisation.max_shift:
            raise ValueError(
                "randomisation.step_range and randomisation.max_shift are for DefendedRecogniser, "
                f"got {randomisation}"
            )
        settings = PurifySettings(
            inversion_steps=inversion_steps,
            num_inference_steps=num_inference_steps,
            guidance_reference=guidance_reference,
            method=method,
            randomisation=randomisation,
            one_look=look,
        )
        on_step = self._on_step(callback_on_step_end)
        purification = PURIFICATIONS[method](
            self, clips, settings, generator, flow=flow, on_step=on_step
        )

        # 1. to 4.: encode, invert, estimate the flow, denoise
        candidates: list[Candidate] = []
        with self.progress_bar(total=purification.num_candidates) as bar:
            for candidate in purification.candidates():
                candidates.append(candidate)
                bar.update()
        timesteps = [candidate.timestep for candidate in candidates]
        latents = torch.stack([c.latents for c in candidates], dim=1)  # [B, N, C, T, h, w]

        # 5. Decode; the vote is `DefendedRecogniser`'s
        decoded: Tensor | np.ndarray | None = None
        if output_type != "latent":
            frames = clips.shape[1]
            decoded = torch.stack([self.decode(c.latents, frames) for c in candidates], dim=1)
            if output_type == "np":
                decoded = decoded.cpu().numpy()
        self.maybe_free_model_hooks()
        if not return_dict:
            return decoded, latents, timesteps
        return VideoPureOutput(candidates=decoded, latents=latents, timesteps=timesteps)

    def _on_step(self, callback: StepCallback | None) -> OnStep:
        if callback is None:
            return keep

        def on_step(index: int, timestep: int, latents: Tensor) -> Tensor:
            return callback(self, index, timestep, {"latents": latents}).get("latents", latents)

        return on_step
