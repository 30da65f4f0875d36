"""The guided spatial-temporal optimisation of VideoPure, in closed form.

Each denoising step offers an estimate of the clean latents x0. The paper improves it by one
gradient step on a loss with two terms: distance from the encoded clip and agreement of each frame
with the next one warped back along the optical flow (arXiv 2501.14999, the section on guided
spatial-temporal optimisation). Both gradients are written out here, so that no autograd runs while
serving; all operations stay differentiable for attacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["PUBLISHED_SHAPE", "Guidance", "guide", "resize_flow", "warp"]

# Latents of 32 frames of 224x224 as (T, C, h, w): the setting in which the published weights hold.
PUBLISHED_SHAPE = (32, 4, 28, 28)


@dataclass(frozen=True)
class Guidance:
    """Weights of the guided update.

    Args:
        fidelity: weight of the distance from the encoded latents (published: 800).
        consistency: weight of the flow consistency between neighbouring frames (published: 5).
        scale: gradient scale, shared by all iterations (published: -4).
        iterations: gradient steps per denoising step (published: 1).
        reference: latent shape (T, C, h, w) at which the weights hold as given. The losses are
            means over latent elements, so the same weights act more strongly on smaller clips;
            elsewhere they are scaled by the ratio of element counts, which makes the update
            independent of resolution. None leaves the published arithmetic as it stands.
    """

    fidelity: float = 800.0
    consistency: float = 5.0
    scale: float = -4.0
    iterations: int = 1
    reference: tuple[int, int, int, int] | None = PUBLISHED_SHAPE

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise ValueError(f"iterations must be 0 or more, got {self.iterations}")
        if self.reference is not None and (
            len(self.reference) != 4 or any(size < 1 for size in self.reference)
        ):
            raise ValueError(
                "reference must be four positive sizes (T, C, h, w) or None, got "
                f"{self.reference!r}"
            )

    def element_counts(self, latents: Tensor) -> tuple[int, int]:
        """Elements (N of a clip, n of a frame) over which the two means of the loss are taken."""
        _, channels, frames, height, width = latents.shape
        shape = self.reference or (frames, channels, height, width)
        return prod(shape), prod(shape[1:])


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring an optical flow from pixels to the latent grid.

    Args:
        flow: [B, T-1, 2, H, W], (dx, dy) in pixels.
        size: latent (h, w).

    Returns:
        [B, T-1, 2, h, w], (dx, dy) in latent pixels; bilinear with half-pixel centres.
    """
    height, width = flow.shape[-2:]
    ratio = flow.new_tensor([size[1] / width, size[0] / height]).view(2, 1, 1)
    resized = F.interpolate((flow * ratio).flatten(0, 1), size, mode="bilinear")
    return resized.unflatten(0, flow.shape[:2])


def warp(frames: Tensor, flow: Tensor) -> Tensor:
    """Sample each frame at the places its flow points to.

    Args:
        frames: [N, C, h, w].
        flow: [N, 2, h, w], (dx, dy) in pixels of `frames`.

    Returns:
        [N, C, h, w]: bilinear samples of `frames` at (x + dx, y + dy); taps that fall outside
        count as zero.
    """
    height, width = frames.shape[-2:]
    # grid_sample's half-pixel convention: pixel x lies at (2 x + 1) / width - 1. Unlike the
    # corner-aligned one it is defined for a single row or column, too.
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)  # [N, h, w, 2]
    return F.grid_sample(frames, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def guide(
    latents: Tensor,
    noise: Tensor,
    encoded: Tensor,
    flow: Tensor,
    alpha: float,
    log_variance: float,
    guidance: Guidance,
) -> Tensor:
    """One guided update of noisy latents.

    A step of gradient ascent on `fidelity * mean((x0 - encoded)^2) - consistency * sum over frames
    of mean(|x0 - warped next frame|)`, with the warped frame held constant.

    Args:
        latents: [B, C, T, h, w], float32, at noise level `alpha`.
        noise: predicted noise, like `latents`.
        encoded: latents of the clip to purify, like `latents`.
        flow: [B, T-1, 2, h, w], (dx, dy) in latent pixels from frame k to frame k + 1.
        alpha: cumulative alpha of the noise level, in 0..1.
        log_variance: log of the DDIM variance between this level and the next one.

    Returns:
        Updated noisy latents, like `latents`.
    """
    if guidance.iterations == 0:
        return latents
    clip_elements, frame_elements = guidance.element_counts(latents)
    step = guidance.scale / guidance.iterations * log_variance / alpha**0.5
    for _ in range(guidance.iterations):
        x0 = (latents - (1 - alpha) ** 0.5 * noise) / alpha**0.5
        gradient = (2 * guidance.fidelity / clip_elements) * (x0 - encoded)
        if guidance.consistency:
            warped = _warp_back(x0.detach(), flow.to(x0.dtype))
            signs = torch.sign(x0[:, :, :-1] - warped)
            gradient[:, :, :-1] -= (guidance.consistency / frame_elements) * signs
        latents = latents + step * gradient
    return latents


def _warp_back(x0: Tensor, flow: Tensor) -> Tensor:
    """Frames 1..T-1 warped onto frames 0..T-2: [B, C, T-1, h, w]."""
    batch, _, frames = x0.shape[:3]
    following = x0[:, :, 1:].transpose(1, 2).flatten(0, 1)  # [B*(T-1), C, h, w]
    warped = warp(following, flow.flatten(0, 1))
    return warped.unflatten(0, (batch, frames - 1)).transpose(1, 2)  # [B, C, T-1, h, w]
