"""The noise that a purifier is trained to remove, drawn for one clip at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from videopure.motions.dataset import mixed_noise
from videopure.purifier import VideoPurePipeline

__all__ = ["NoiseDraw", "draw_noise", "latent_noise"]

_FAINT = 0.1  # scale of encoded noise: a codec network is linear only for small changes


class NoiseDraw(NamedTuple):
    """The random draws for the noise on one clip; see `draw_noise`."""

    white: Tensor  # [C, T, h, w]
    smooth: Tensor | None = None  # of pixels, [T, 3, H, W]; None for white noise alone
    angle: float = 0.0  # between the two, in 0..pi/2


def draw_noise(
    clip_shape: tuple[int, ...],
    latent_shape: tuple[int, ...],
    white_share: float,
    generator: Generator,
) -> NoiseDraw:
    """Draw the noise for one clip [T, 3, H, W] with latents [C, T, h, w].

    White in a share of the clips, otherwise a random mixture of white noise and of noise that is
    smooth in space, in time or in both. Purification meets two things that are unlike white noise:
    temporal inversion injects the same noise into every frame, and perturbations made by gradients
    are smooth. (Mixed noise priors are known from video diffusion, e.g. arXiv 2305.10474.)
    """
    white = torch.randn(latent_shape, generator=generator)
    if float(torch.rand(1, generator=generator)) < white_share:
        return NoiseDraw(white)
    angle = math.pi / 2 * float(torch.rand(1, generator=generator))
    return NoiseDraw(white, mixed_noise(clip_shape, generator, cells=(2, 4, 8)), angle)


@torch.no_grad()
def latent_noise(drawn: NoiseDraw, pipeline: VideoPurePipeline) -> Tensor:
    """The drawn noise, as latents [C, T, h, w] of unit mean variance.

    Smooth noise is the difference that it makes to the encoding of a grey clip.
    """
    device = pipeline.device
    white = drawn.white.to(device)
    if drawn.smooth is None:
        return white
    faint = _FAINT * drawn.smooth.to(device)
    both = pipeline.encode(0.5 + torch.stack((faint, torch.zeros_like(faint))))
    smooth = both[0] - both[1]
    return (
        math.cos(drawn.angle) * white
        + math.sin(drawn.angle) * smooth / smooth.square().mean().sqrt()
    )
