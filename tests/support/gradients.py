"""The exact gradient of the votes, held against finite differences."""

from __future__ import annotations

import torch
from torch import Tensor

from videopure.purifier import DefendedRecogniser

__all__ = ["assert_finite_differences_agree"]

_STEP = 1e-7


def assert_finite_differences_agree(
    defended: DefendedRecogniser, video: Tensor, direction: Tensor
) -> None:
    """Compare the gradient along a direction with a central difference.

    Args:
        defended: in float64.
        video: clips [B, T, 3, H, W] in 0..1, further than the step from either end; float64.
        direction: of the same shape.
    """
    video = video.detach().requires_grad_()
    (grad,) = torch.autograd.grad(defended(video).logsumexp(-1).sum(), video)
    with torch.no_grad():
        above, below = (
            defended(video + sign * _STEP * direction).logsumexp(-1).sum() for sign in (1, -1)
        )
    expected = (grad * direction).sum()
    torch.testing.assert_close((above - below) / (2 * _STEP), expected, rtol=1e-4, atol=1e-7)
    assert grad.abs().max() > 0
