"""Measures of accuracy, of the suspicion score, and of what purification does to clean clips."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from videopure.purifier.guidance import warp

__all__ = [
    "auc",
    "mcnemar",
    "psnr",
    "roc",
    "ssim",
    "true_alarms",
    "warping_error",
    "wilson_interval",
]


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (E. B. Wilson, 1927), in 0..1."""
    if count < 1 or not 0 <= hits <= count:
        raise ValueError(f"hits must be in 0..count with count at least 1, got {hits} of {count}")
    z, share = 1.959964, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, float]:
    """Whether two defences differ on the same clips (Q. McNemar, 1947; the exact binomial test).

    Args:
        first, second: for each clip, whether the answer was right.

    Returns:
        The number of clips that only the first and only the second got right, and the two-sided
        p-value.
    """
    if len(first) != len(second):
        raise ValueError(f"both must see the same clips, got {len(first)} and {len(second)}")
    ours = sum(a and not b for a, b in zip(first, second, strict=True))
    theirs = sum(b and not a for a, b in zip(first, second, strict=True))
    apart = ours + theirs
    tail = sum(comb(apart, k) for k in range(min(ours, theirs) + 1)) / 2**apart
    return ours, theirs, min(1.0, 2 * tail)


def auc(negative: Tensor, positive: Tensor) -> float:
    """Probability that a positive score exceeds a negative one; ties count half."""
    difference = positive[:, None] - negative[None, :]
    return float(((difference > 0).double() + 0.5 * (difference == 0).double()).mean())


def roc(negative: Tensor, positive: Tensor) -> tuple[list[float], list[float]]:
    """False- and true-alarm rates over all thresholds, ascending, from (0, 0) to (1, 1)."""
    thresholds = torch.cat((negative, positive)).unique().flip(0)
    false = [float((negative >= t).double().mean()) for t in thresholds]
    true = [float((positive >= t).double().mean()) for t in thresholds]
    return [0.0, *false], [0.0, *true]


def true_alarms(negative: Tensor, positive: Tensor, false_alarms: float) -> float:
    """Share of positive scores above the lowest threshold with at most this rate of false alarms.

    With few negative scores that threshold is their largest: a rate of 1 % needs 100 of them.
    """
    allowed = int(false_alarms * len(negative) + 1e-9)
    threshold = negative.sort(descending=True).values[allowed]
    return float((positive > threshold).double().mean())


def psnr(clip: Tensor, other: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of clips [T, 3, H, W] in 0..1; infinite for equal ones."""
    error = float((clip.double() - other.double()).pow(2).mean())
    return float("inf") if error == 0 else -10 * float(torch.tensor(error).log10())


def ssim(clip: Tensor, other: Tensor) -> float:
    """Structural similarity of clips [T, 3, H, W] in 0..1, mean over frames and channels.

    (Wang et al., 2004: Gaussian window of 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03; positions
    where the window does not fit are omitted.)
    """
    if min(clip.shape[-2:]) < 11:
        raise ValueError(f"frames must be at least 11x11 pixels, got {list(clip.shape[-2:])}")
    x = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-0.5 * (x / 1.5) ** 2)
    window = torch.outer(window, window) / window.sum() ** 2
    kernel = window.to(clip.device)[None, None]

    def local_mean(values: Tensor) -> Tensor:
        return F.conv2d(values.flatten(0, 1)[:, None], kernel)  # [T*3, 1, H-10, W-10]

    a, b = clip.double(), other.double()
    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = local_mean(a * a) - mean_a**2
    var_b = local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return float(similarity.mean())


def warping_error(clip: Tensor, flow: Tensor) -> float:
    """How much frames differ from the next ones warped back (Lai et al., arXiv 1808.00449).

    The mean absolute difference, 0..1, where the flow stays inside the frame; lower is more
    consistent in time.

    Args:
        clip: [T, 3, H, W] in 0..1.
        flow: [T-1, 2, H, W], (dx, dy) in pixels from frame k to frame k + 1.
    """
    warped = warp(clip[1:], flow)
    inside = warp(torch.ones_like(clip[1:, :1]), flow) > 0.999  # [T-1, 1, H, W]
    difference = (warped - clip[:-1]).abs().mean(dim=1, keepdim=True)
    return float(difference[inside].mean()) if bool(inside.any()) else 0.0
