"""The output of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from diffusers.utils import BaseOutput
from torch import Tensor

__all__ = ["VideoPureOutput"]


@dataclass
class VideoPureOutput(BaseOutput):
    """Purified clips.

    `candidates` is [B, N, T, 3, H, W] in 0..1: N = K + 1 candidates to vote on for `videopure`
    (K guided estimates from the highest noise level to the lowest, then the guided final latents),
    N = 1 for the other methods. `latents` is [B, N, C, T, h, w]; with `output_type="latent"` the
    candidates are not decoded and None. `timesteps` names the train step of each candidate; the
    final latents carry 0.
    """

    candidates: Tensor | np.ndarray | None
    latents: Tensor
    timesteps: list[int]
