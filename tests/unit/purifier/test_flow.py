"""DIS flow: direction, sign, units, small frames."""

import pytest
import torch
from torch.nn import functional as F

from videopure.purifier.flow import DISFlow

pytestmark = pytest.mark.unit


def moving_clip(dx: int, dy: int, frames: int = 3, size: int = 64) -> torch.Tensor:
    """[1, T, 3, size, size]: a smooth texture that moves by (dx, dy) pixels a frame."""
    generator = torch.Generator().manual_seed(1)
    texture = torch.rand(1, 3, 24, 24, generator=generator)
    canvas = F.interpolate(texture, (2 * size, 2 * size), mode="bicubic").clamp(0, 1)
    origin = size // 2
    views = [
        canvas[
            0, :, origin - k * dy : origin - k * dy + size, origin - k * dx : origin - k * dx + size
        ]
        for k in range(frames)
    ]
    return torch.stack(views)[None]


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (-3, 0), (0, 2), (2, -3)])
def test_flow_points_from_each_frame_to_the_next(dx: int, dy: int) -> None:
    flow = DISFlow()(moving_clip(dx, dy))
    assert flow.shape == (1, 2, 2, 64, 64)
    inner = flow[..., 12:-12, 12:-12]
    assert inner[:, :, 0].median().item() == pytest.approx(dx, abs=0.3)
    assert inner[:, :, 1].median().item() == pytest.approx(dy, abs=0.3)


@pytest.mark.parametrize("size", [(8, 8), (8, 40), (12, 12)])
def test_small_frames_have_a_flow(size: tuple[int, int]) -> None:
    flow = DISFlow()(torch.rand(2, 4, 3, *size, generator=torch.Generator().manual_seed(0)))
    assert flow.shape == (2, 3, 2, *size)
    assert torch.isfinite(flow).all()


def test_a_still_clip_does_not_flow() -> None:
    clip = moving_clip(0, 0)
    assert DISFlow()(clip).abs().max().item() < 0.05
