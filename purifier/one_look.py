"""One look: purification by a single denoising step.

Purification in many steps costs many network calls, and none of them stops an attacker who follows
the gradient through all of them. One step is cheap to serve and cheap to train through, and the
training is what makes it robust. For images, ADBM (arXiv 2408.00315) and AToP (arXiv 2401.16352)
purify in one step with a fine-tuned denoiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from videopure.purifier.sampling import PredictNoise
from videopure.purifier.schedule import NoiseLevel, Schedule, predict_x0
from videopure.purifier.shortcuts import Shortcuts

__all__ = ["TEMPORAL_JUMP", "Entry", "OneLook", "enter_plainly", "one_look"]

Entry = Literal["inversion", "plain"]

# Temporal inversion in one call on one frame.
TEMPORAL_JUMP = Shortcuts(inversion_frames=1, inversion_jump=True)

# (noisy latents, noise, level) -> noisy latents, guided; all [B, C, T, h, w].
Guide = Callable[[Tensor, Tensor, NoiseLevel], Tensor]


@dataclass(frozen=True)
class OneLook:
    """Settings of method `one_look`; its noise level is the highest that `inversion_steps` reaches.

    Args:
        entry: `inversion` jumps to the level with the noise predicted for the first frame, at the
            cost of a call on that frame; `plain` scales the latents to the level and adds no noise.
        guided: whether the guided spatial-temporal optimisation is applied to the estimate.
    """

    entry: Entry = "inversion"
    guided: bool = False

    def __post_init__(self) -> None:
        if self.entry not in get_args(Entry):
            raise ValueError(
                f"one_look.entry must be one of {', '.join(get_args(Entry))}, got {self.entry!r}"
            )


def enter_plainly(latents: Tensor, schedule: Schedule) -> Tensor:
    """Latents [B, C, T, h, w] at the schedule's highest level, without noise."""
    return schedule.alpha(schedule.timesteps_down[0]) ** 0.5 * latents


def one_look(
    latents: Tensor, predict_noise: PredictNoise, schedule: Schedule, guided: Guide | None = None
) -> Tensor:
    """Predict the clean latents [B, C, T, h, w] from `latents` at the highest level.

    Deterministic and differentiable; one network call.
    """
    timestep = schedule.timesteps_down[0]
    level = NoiseLevel(timestep, schedule.alpha(timestep), schedule.alpha(-1))
    noise = predict_noise(latents, timestep)
    if guided is not None:
        latents = guided(latents, noise, level)
    return predict_x0(latents, noise, level.alpha)
