"""Samplers: VideoPure's own, and those it is compared with.

Each is a short function of latents [B, C, T, h, w] (float32), a noise predictor and a schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from videopure.purifier.guidance import Guidance, guide
from videopure.purifier.schedule import NoiseLevel, Schedule, ddpm_step, predict_x0

__all__ = [
    "DenoisingStep",
    "OnStep",
    "PredictNoise",
    "add_noise",
    "ddim",
    "ddim_guided",
    "ddim_inversion",
    "ddpm",
]

# (latents [B, C, T, h, w], train step) -> predicted noise of the same shape.
PredictNoise = Callable[[Tensor, int], Tensor]
# (index, train step, latents) -> latents to continue with.
OnStep = Callable[[int, int, Tensor], Tensor]


def keep(index: int, timestep: int, latents: Tensor) -> Tensor:
    """The `OnStep` that changes nothing."""
    return latents


class DenoisingStep(NamedTuple):
    """Inputs and result of one denoising step; all latents are [B, C, T, h, w]."""

    level: NoiseLevel
    latents: Tensor  # the trajectory before the step
    noise: Tensor  # as predicted by the UNet
    candidate: Tensor  # the guided estimate of the clean latents, to be voted on


def ddim_inversion(
    latents: Tensor,
    predict_noise: PredictNoise,
    schedule: Schedule,
    *,
    temporal: bool = True,
    anchor: Tensor | None = None,
    frames: int | None = None,
    jump: bool = False,
    on_step: OnStep = keep,
) -> list[Tensor]:
    """Temporal DDIM inversion (arXiv 2501.14999): latents at every level on the way up.

    `temporal` uses the noise predicted for the first frame, or for the frame that `anchor` [B]
    names for each clip, for all frames: the injected noise is constant in time and the motion
    survives. False is plain DDIM inversion. Returns K + 1 latents: the given ones, then those
    after each step.

    The temporal form has two shortcuts: `frames` shows the UNet only that many leading frames;
    `jump` takes one step to the highest level, and therefore returns two latents.
    """
    trajectory = [latents]
    clips = torch.arange(len(latents), device=latents.device)
    for index, timestep in enumerate(schedule.timesteps_up[-1:] if jump else schedule.timesteps_up):
        seen = trajectory[-1][:, :, : frames if temporal else None]
        noise = predict_noise(seen, timestep)
        if temporal:
            frame = noise[:, :, 0] if anchor is None else noise[clips, :, anchor]  # [B, C, h, w]
            noise = frame[:, :, None].expand_as(latents)
        step = schedule.jump_up if jump else schedule.step_up
        raised = step(noise, timestep, trajectory[-1])
        trajectory.append(on_step(index, timestep, raised))
    return trajectory


def ddim_guided(
    latents: Tensor,
    encoded: Tensor,
    flow: Tensor,
    predict_noise: PredictNoise,
    schedule: Schedule,
    guidance: Guidance,
    *,
    eta: float = 0.0,
    draw: Callable[[], Tensor] | None = None,
    skip: int = 0,
    on_step: OnStep = keep,
) -> Iterator[DenoisingStep]:
    """DDIM denoising with the guided spatial-temporal optimisation (arXiv 2501.14999).

    The guided estimates are what is voted on; the trajectory itself stays unguided, as in the
    published procedure. With `eta` above 0 every step adds fresh noise, which `draw` returns in
    the latents' shape. Yields K + 1 steps, from the highest noise level to the guided final
    latents; each is computed when the caller requests it. The first `skip` steps are neither
    guided nor yielded.
    """
    for index, level in enumerate(schedule.levels()):
        noise = predict_noise(latents, level.timestep)
        if index >= skip:
            guided = guide(latents, noise, encoded, flow, level.alpha, level.log_variance, guidance)
            yield DenoisingStep(level, latents, noise, predict_x0(guided, noise, level.alpha))
        fresh = draw() if eta and draw is not None else None
        lowered = schedule.step_down(noise, level.timestep, latents, eta, fresh)
        latents = on_step(index, level.timestep, lowered)
    # The published procedure guides the final latents with the values of its last step.
    final = guide(latents, noise, encoded, flow, level.alpha, level.log_variance, guidance)
    yield DenoisingStep(NoiseLevel(0, level.alpha_next, 1.0), latents, noise, final)


def ddim(latents: Tensor, predict_noise: PredictNoise, schedule: Schedule) -> Tensor:
    """DDIM denoising (arXiv 2010.02502) to the final latents."""
    for timestep in schedule.timesteps_down:
        latents = schedule.step_down(predict_noise(latents, timestep), timestep, latents)
    return latents


def ddpm(
    latents: Tensor, predict_noise: PredictNoise, schedule: Schedule, draw: Callable[[], Tensor]
) -> Tensor:
    """Ancestral denoising (arXiv 2006.11239) over every train step from the highest level down.

    `draw` returns fresh Gaussian noise of the latents' shape for each step.
    """
    for timestep in range(schedule.timesteps_down[0], 0, -1):
        noise = predict_noise(latents, timestep)
        alpha, below = schedule.alpha(timestep), schedule.alpha(timestep - 1)
        latents = ddpm_step(latents, noise, draw(), alpha, below)
    return latents


def add_noise(latents: Tensor, schedule: Schedule, noise: Tensor) -> Tensor:
    """Bring latents to the highest level of the schedule in one step, with the given noise."""
    alpha = schedule.alpha(schedule.timesteps_down[0])
    return alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise
