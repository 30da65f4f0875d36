"""The noise levels that purification visits, on stock diffusers schedulers.

Notation of the code: `alphas[t]` is the cumulative product A(t) of the diffusion model's noise
schedule, in 0..1; a clip at train step t is `sqrt(A) * x0 + sqrt(1 - A) * noise`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from diffusers import DDIMInverseScheduler, DDIMScheduler
from torch import Tensor

__all__ = [
    "BETA_SCHEDULERS",
    "NoiseLevel",
    "Schedule",
    "as_ddim",
    "ddpm_step",
    "flow_time",
    "noise_of_velocity",
    "predict_x0",
    "published_levels",
]

# Schedulers of diffusers whose `beta_start`, `beta_end`, `beta_schedule` and `trained_betas` have
# the same meaning as in DDIM. They step differently, which does not matter here.
BETA_SCHEDULERS = (
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)


@dataclass(frozen=True)
class NoiseLevel:
    """One denoising step: from train step `timestep` down to the next level."""

    timestep: int
    alpha: float  # A(timestep)
    alpha_next: float  # A of the level that the step reaches

    @property
    def log_variance(self) -> float:
        """Log of the DDIM variance of this step (DDIM, arXiv 2010.02502, eq. 16 with eta 1)."""
        # In float32 like the published procedure: 1 - A cancels digits at the lowest levels.
        alpha, alpha_next = np.float32(self.alpha), np.float32(self.alpha_next)
        variance = (1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next)
        return float(np.log(max(variance, np.float32(1e-20))))


class Schedule:
    """The K = inversion_steps + 1 lowest noise levels of a schedule of `num_inference_steps`.

    Args:
        scheduler: the diffusion model's scheduler; only its configuration is used, so that
            concurrent calls share nothing.
        inverse_scheduler: the scheduler of the way up, or None to derive it from `scheduler`.
        inversion_steps: the paper's t; K = t + 1 steps are taken each way.
        num_inference_steps: steps S that the full schedule would have.
    """

    def __init__(
        self,
        scheduler: DDIMScheduler,
        inverse_scheduler: DDIMInverseScheduler | None,
        inversion_steps: int,
        num_inference_steps: int,
    ) -> None:
        # Whatever the UNet predicts is converted to noise first; see `noise_of_velocity`.
        noise = {"prediction_type": "epsilon"}
        self.down = _configured(DDIMScheduler, {**scheduler.config, **noise})
        self.down.set_timesteps(num_inference_steps)
        # From the configuration: the class's own defaults would clip the sample.
        source = scheduler if inverse_scheduler is None else inverse_scheduler
        self.up = _configured(DDIMInverseScheduler, {**source.config, **noise})
        self.up.set_timesteps(num_inference_steps)
        count = inversion_steps + 1
        self.timesteps_up: list[int] = self.up.timesteps[:count].tolist()
        self.timesteps_down: list[int] = self.down.timesteps[-count:].tolist()
        self._stride = self.down.config.num_train_timesteps // num_inference_steps

    def alpha(self, timestep: int) -> float:
        """A(timestep); below the first train step the schedule's final value."""
        if timestep < 0:
            return float(self.down.final_alpha_cumprod)
        return float(self.down.alphas_cumprod[timestep])

    def levels(self) -> list[NoiseLevel]:
        """The denoising steps, from the highest noise level to the lowest."""
        return [
            NoiseLevel(t, self.alpha(t), self.alpha(t - self._stride)) for t in self.timesteps_down
        ]

    def step_up(self, noise: Tensor, timestep: int, latents: Tensor) -> Tensor:
        """One DDIM inversion step to the level of `timestep`."""
        return self.up.step(noise, timestep, latents).prev_sample

    def jump_up(self, noise: Tensor, timestep: int, latents: Tensor) -> Tensor:
        """One DDIM inversion step from the lowest level to that of `timestep`."""
        alpha = self.alpha(timestep)
        x0 = predict_x0(latents, noise, self.alpha(-1))
        return alpha**0.5 * x0 + (1 - alpha) ** 0.5 * noise

    def step_down(
        self,
        noise: Tensor,
        timestep: int,
        latents: Tensor,
        eta: float = 0.0,
        fresh: Tensor | None = None,
    ) -> Tensor:
        """One DDIM denoising step from the level of `timestep`, with `eta` of `fresh` noise."""
        step = self.down.step(noise, timestep, latents, eta=eta, variance_noise=fresh)
        return step.prev_sample


def as_ddim(scheduler: Any, **changes: Any) -> DDIMScheduler:
    """The DDIM scheduler with the noise schedule of another scheduler.

    Args:
        scheduler: a diffusers scheduler, or an object with the `config` of one.
        changes: to that configuration.

    Raises:
        ValueError: if DDIM does not have this noise schedule.
    """
    if isinstance(scheduler, DDIMScheduler) and not changes:
        return scheduler
    _check_betas(scheduler)
    # Schedulers that never clip have no key for it, and DDIM's default would clip latents.
    ddim: DDIMScheduler = _configured(
        DDIMScheduler, {"clip_sample": False, **scheduler.config, **changes}
    )
    return ddim


def _check_betas(scheduler: Any) -> None:
    """Raise ValueError if DDIM would silently use another noise schedule."""
    config = scheduler.config
    name = config.get("_class_name") or type(scheduler).__name__
    if name not in BETA_SCHEDULERS:
        raise ValueError(
            f"scheduler is a {name}, whose noise schedule DDIM may not have; use one of "
            f"{', '.join(BETA_SCHEDULERS)}"
        )
    for key, plain in (("use_flow_sigmas", False), ("snr_shift_scale", 1.0)):
        if config.get(key, plain) not in (plain, None):
            raise ValueError(
                f"scheduler.{key} must be {plain}, got {config[key]!r}: DDIM has no such noise "
                "schedule, and a UNet is trained on one that it has"
            )


def _configured(kind: Any, settings: dict[str, Any]) -> Any:
    """A scheduler with the settings that it knows; diffusers would warn about the others."""
    known = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in settings.items() if key in known})


@cache
def published_levels() -> DDIMScheduler:
    """The noise levels of the published procedure: those of Stable Diffusion's betas.

    Only its configuration and its alphas are used; see `Schedule`.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def flow_time(alpha: float) -> float:
    """The time in 0..1 at which flow matching has the noise ratio of a level `alpha`."""
    signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    return noise / (signal + noise)


def predict_x0(latents: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """The clean latents that `latents` at level `alpha` come from if `noise` is their noise."""
    return (latents - (1 - alpha) ** 0.5 * noise) / alpha**0.5


def noise_of_velocity(velocity: Tensor, latents: Tensor, alpha: float) -> Tensor:
    """The noise in `latents` at level `alpha`, given a velocity (arXiv 2202.00512, appendix D)."""
    return alpha**0.5 * velocity + (1 - alpha) ** 0.5 * latents


def ddpm_step(
    latents: Tensor, noise: Tensor, fresh: Tensor, alpha: float, alpha_next: float
) -> Tensor:
    """One ancestral step (DDPM, arXiv 2006.11239, eq. 7) with `fresh` noise.

    As in the published comparison, noise is added in the last step as well.
    """
    x0 = predict_x0(latents, noise, alpha)
    ratio = alpha / alpha_next
    mean = (
        alpha_next**0.5 * (1 - ratio) / (1 - alpha) * x0
        + ratio**0.5 * (1 - alpha_next) / (1 - alpha) * latents
    )
    variance = (1 - alpha_next) / (1 - alpha) * (1 - ratio)
    return mean + variance**0.5 * fresh
