"""Purification of a batch of clips, step by step, and how the methods differ.

`videopure` is the method of the paper (arXiv 2501.14999), `one_look` a single step; the others are
what the paper compares with. A new method needs changes in this file only: a subclass of
`Purification`, its name in `Method`, and its line in `PURIFICATIONS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, get_args

from torch import Tensor

from videopure.purifier.clip import roll_frames
from videopure.purifier.flow import FlowEstimator
from videopure.purifier.guidance import Guidance, guide
from videopure.purifier.one_look import TEMPORAL_JUMP, enter_plainly, one_look
from videopure.purifier.randomisation import (
    Generators,
    draw_integers,
    draw_noise,
    draw_noise_by_frame,
)
from videopure.purifier.sampling import OnStep, add_noise, ddim, ddpm, keep
from videopure.purifier.schedule import NoiseLevel
from videopure.purifier.stopwatch import Stopwatch

if TYPE_CHECKING:
    from videopure.purifier.pipeline import VideoPurePipeline
    from videopure.purifier.settings import PurifySettings

__all__ = ["METHODS", "PURIFICATIONS", "Candidate", "Method", "Purification", "VideoPure"]

Method = Literal["videopure", "one_look", "ddim_inversion", "ddim", "ddpm"]
METHODS: tuple[Method, ...] = get_args(Method)


class Candidate(NamedTuple):
    """A purified version of the clips."""

    timestep: int  # train step that it was estimated at; 0 for the final latents
    latents: Tensor  # [B, C, T, h, w]


class Purification(ABC):
    """The purification of one batch of clips.

    Args:
        pipeline: the models.
        clips: [B, T, 3, H, W] in 0..1.
        settings: how to purify; `inversion_steps` is the same for all clips.
        generator: source of randomness; a list, one for each clip, if clips are rolled.
        flow: see `VideoPurePipeline.estimate_flow`.
        on_step: called after each step of `videopure` with the latents.
        watch: measures the time of each stage.

    Raises:
        ValueError: if the schedule has no such steps.
    """

    # Whether the settings' randomisation and shortcuts apply; see `PurifySettings`.
    adjustable: ClassVar[bool] = False
    # Whether noise is drawn regardless of the settings.
    randomised: ClassVar[bool] = False

    def __init__(
        self,
        pipeline: VideoPurePipeline,
        clips: Tensor,
        settings: PurifySettings,
        generator: Generators = None,
        *,
        flow: Tensor | FlowEstimator | None = None,
        on_step: OnStep = keep,
        watch: Stopwatch | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.generator = generator
        self.flow = flow
        self.on_step = on_step
        self.watch = watch or Stopwatch(clips.device)
        self.schedule = pipeline.schedule(settings.inversion_steps, settings.num_inference_steps)
        self._shifts = settings.effective_randomisation.draw_shifts(len(clips), generator)
        self.clips = roll_frames(clips, self._shifts)

    def candidates(self) -> Iterator[Candidate]:
        """Yield the purified versions; each is computed when it is requested."""
        # 1. Encode every frame.
        with self.watch.measure("encode"):
            encoded = self.pipeline.encode(self.clips)  # [B, C, T, h, w]

        # 2. Invert: bring the latents up to the highest noise level of the schedule.
        with self.watch.measure("invert"):
            noisy = self.invert(encoded)  # [B, C, T, h, w]

        # 3. Estimate the optical flow, which keeps neighbouring frames consistent.
        with self.watch.measure("flow"):
            flow = (  # [B, T-1, 2, h, w]
                self.pipeline.estimate_flow(self.clips, self.flow) if self.guided else None
            )

        # 4. Denoise: each step on the way down may yield a candidate.
        yield from self.watch.measure_each("denoise", self.denoise(noisy, encoded, flow))

        # 5. Decode and vote: see `DefendedRecogniser.answer`, which stops when it has enough.

    @property
    def guided(self) -> bool:
        """Whether denoising needs the optical flow."""
        return False

    @property
    def num_candidates(self) -> int:
        """The number of candidates."""
        return 1

    @abstractmethod
    def invert(self, encoded: Tensor) -> Tensor:
        """The clips' latents at the highest noise level: [B, C, T, h, w], like `encoded`."""

    @abstractmethod
    def denoise(self, noisy: Tensor, encoded: Tensor, flow: Tensor | None) -> Iterator[Candidate]:
        """Candidates from the latents [B, C, T, h, w] that `invert` returns for `encoded`."""

    def decode(self, latents: Tensor, clips: Tensor | None = None) -> Tensor:
        """Decode latents to clips [B, T, 3, H, W] in 0..1; `clips` [N] selects some by index.

        Rolled clips are rolled back.
        """
        wanted = range(len(self.clips)) if clips is None else clips.tolist()
        chosen = latents if clips is None else latents[clips]
        back = [(-self._shifts[k][0], -self._shifts[k][1]) for k in wanted]
        return roll_frames(self.pipeline.decode(chosen, self.clips.shape[1]), back)


class VideoPure(Purification):
    """Temporal inversion and guided denoising (arXiv 2501.14999): K + 1 candidates."""

    adjustable = True

    @property
    def guided(self) -> bool:
        """Always: guidance is part of the method."""
        return True

    @property
    def num_candidates(self) -> int:
        """An estimate at each of the K levels, and the final latents; fewer with a shortcut."""
        every = len(self.schedule.timesteps_down) + 1
        return self.settings.effective_shortcuts.voters(every)

    def invert(self, encoded: Tensor) -> Tensor:
        """Temporal DDIM inversion; or one fresh noise that all frames share."""
        drawn = self.settings.effective_randomisation
        if drawn.fresh_noise:
            noise = draw_noise(encoded, self.generator, shared=True)
            return add_noise(encoded, self.schedule, noise)
        anchor = None
        if drawn.random_anchor:
            batch, _, frames, _, _ = encoded.shape
            anchor = draw_integers(batch, frames, self.generator, encoded.device)
        return self.pipeline.invert(
            encoded,
            self.schedule,
            anchor=anchor,
            shortcuts=self.settings.effective_shortcuts,
            on_step=self.on_step,
        )[-1]

    def guidance(self) -> Guidance:
        """Weights of the guided spatial-temporal optimisation."""
        return self.settings.guidance

    def denoise(self, noisy: Tensor, encoded: Tensor, flow: Tensor | None) -> Iterator[Candidate]:
        """Guided estimates from the highest noise level to the lowest, then the final latents."""
        assert flow is not None  # `guided`
        steps = self.pipeline.denoise(
            noisy,
            encoded,
            flow,
            self.schedule,
            self.guidance(),
            eta=self.settings.effective_randomisation.eta,
            draw=partial(draw_noise, encoded, self.generator, shared=True),
            shortcuts=self.settings.effective_shortcuts,
            on_step=self.on_step,
        )
        for step in steps:
            yield Candidate(step.level.timestep, step.candidate)


class OneLook(Purification):
    """A single denoising step, whose estimate of the clean latents is the only candidate."""

    @property
    def guided(self) -> bool:
        """If the settings say so."""
        return self.settings.one_look.guided

    def invert(self, encoded: Tensor) -> Tensor:
        """Temporal inversion in one jump; or scaling to the level, without noise."""
        if self.settings.one_look.entry == "plain":
            return enter_plainly(encoded, self.schedule)
        return self.pipeline.invert(
            encoded, self.schedule, shortcuts=TEMPORAL_JUMP, on_step=self.on_step
        )[-1]

    def denoise(self, noisy: Tensor, encoded: Tensor, flow: Tensor | None) -> Iterator[Candidate]:
        """The estimate from the highest level."""

        def guided(latents: Tensor, noise: Tensor, level: NoiseLevel) -> Tensor:
            assert flow is not None  # `guided`
            alpha, log_variance = level.alpha, level.log_variance
            weights = self.settings.guidance
            return guide(latents, noise, encoded, flow, alpha, log_variance, weights)

        predict_noise = self.pipeline.predict_noise
        update = guided if self.guided else None
        yield Candidate(0, one_look(noisy, predict_noise, self.schedule, update))


class DDIM(Purification):
    """Noise drawn for every frame, then plain DDIM denoising (arXiv 2010.02502)."""

    randomised = True

    def invert(self, encoded: Tensor) -> Tensor:
        """Noise at the highest level, in one step."""
        return add_noise(encoded, self.schedule, draw_noise(encoded, self.generator))

    def denoise(self, noisy: Tensor, encoded: Tensor, flow: Tensor | None) -> Iterator[Candidate]:
        """The final latents."""
        yield Candidate(0, ddim(noisy, self.pipeline.predict_noise, self.schedule))


class DDIMInversion(DDIM):
    """Plain DDIM inversion, every frame with its own noise, then plain DDIM denoising."""

    randomised = False

    def invert(self, encoded: Tensor) -> Tensor:
        """Step by step, with the predicted noise of every frame."""
        return self.pipeline.invert(encoded, self.schedule, temporal=False)[-1]


class DDPM(DDIM):
    """Noise drawn for every frame and in every train step (DiffPure, arXiv 2205.07460)."""

    def denoise(self, noisy: Tensor, encoded: Tensor, flow: Tensor | None) -> Iterator[Candidate]:
        """The final latents of ancestral denoising."""
        draw = partial(draw_noise_by_frame, encoded, self.generator)
        yield Candidate(0, ddpm(noisy, self.pipeline.predict_noise, self.schedule, draw))


PURIFICATIONS: dict[Method, type[Purification]] = {
    "videopure": VideoPure,
    "one_look": OneLook,
    "ddim_inversion": DDIMInversion,
    "ddim": DDIM,
    "ddpm": DDPM,
}
