"""RAFT flow: prepared as torchvision does; direction, sign, axes and units on known motion.

Trained weights cannot be had here, so torchvision's own RAFT is given parts that need no training:
patches of pixels for features, and an update that goes where the correlation is highest. What it
answers is then really where things have moved, in RAFT's own convention.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from videopure.purifier.flow import DISFlow, RAFTFlow, load_flow

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("torchvision")]

RADIUS = 4


class Patches(nn.Module):
    """Features of frames [N, 3, H, W]: their patches of 8x8 pixels, each of length 1."""

    def forward(self, frames: Tensor) -> Tensor:
        patches = F.pixel_unshuffle(frames, 8)  # [N, 192, H/8, W/8]
        return F.normalize(patches - patches.mean(dim=1, keepdim=True), dim=1)


class Context(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        return frames.new_zeros(len(frames), 2, frames.shape[-2] // 8, frames.shape[-1] // 8)


class ToTheBestMatch(nn.Module):
    """Moves each place to where the finest correlation in its window is highest."""

    hidden_state_size = 1

    def forward(
        self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        side = 2 * RADIUS + 1
        best = correlation[:, : side * side].argmax(dim=1)  # [N, h, w]
        step = torch.stack((best // side - RADIUS, best % side - RADIUS), dim=1)
        return hidden, step.to(flow.dtype)


def matching_raft() -> Any:
    from torchvision.models.optical_flow.raft import RAFT, CorrBlock

    return RAFT(
        feature_encoder=Patches(),
        context_encoder=Context(),
        corr_block=CorrBlock(radius=RADIUS),
        update_block=ToTheBestMatch(),
    ).eval()


def raft_small() -> Any:
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    return raft_small(weights=None).eval()


def moving_clip(dx: int, dy: int, size: tuple[int, int], frames: int = 3) -> Tensor:
    """[1, T, 3, H, W]: a texture that moves by (dx, dy) pixels a frame."""
    height, width = size
    generator = torch.Generator().manual_seed(1)
    canvas = torch.rand(1, 3, 3 * height // 4, 3 * width // 4, generator=generator)
    canvas = F.interpolate(canvas, (3 * height, 3 * width), mode="bicubic").clamp(0, 1)[0]
    views = [
        canvas[:, height - k * dy : 2 * height - k * dy, width - k * dx : 2 * width - k * dx]
        for k in range(frames)
    ]
    return torch.stack(views)[None]


@pytest.mark.parametrize(("dx", "dy"), [(8, 0), (-8, 0), (0, 8), (0, -8), (8, 8)])
def test_flow_points_from_each_frame_to_the_next(dx: int, dy: int) -> None:
    clip = moving_clip(dx, dy, (128, 136))
    for estimate in (RAFTFlow(matching_raft(), iterations=2), DISFlow()):
        flow = estimate(clip)
        assert flow.shape == (1, 2, 2, 128, 136)
        inner = flow[..., 40:-40, 40:-40]
        assert inner[:, :, 0].median().item() == pytest.approx(dx, abs=0.5)
        assert inner[:, :, 1].median().item() == pytest.approx(dy, abs=0.5)


@pytest.mark.parametrize("size", [(64, 64), (60, 68), (43, 150), (130, 133)])
def test_frames_of_any_size_have_a_flow_in_their_own_pixels(size: tuple[int, int]) -> None:
    flow = RAFTFlow(matching_raft(), iterations=2)(moving_clip(8, -8, size))
    assert flow.shape == (1, 2, 2, *size)
    inner = flow[..., 16:-16, 16:-16]
    assert inner[:, :, 0].median().item() == pytest.approx(8, abs=0.5)
    assert inner[:, :, 1].median().item() == pytest.approx(-8, abs=0.5)


def test_frames_are_prepared_as_torchvision_does() -> None:
    from torchvision.models.optical_flow import Raft_Small_Weights

    network = raft_small()
    clip = moving_clip(3, 2, (128, 136), frames=2)
    prepared = Raft_Small_Weights.DEFAULT.transforms()(clip[:, 0], clip[:, 1])
    with torch.no_grad():
        expected = network(*prepared, num_flow_updates=3)[-1]
    torch.testing.assert_close(RAFTFlow(network, iterations=3)(clip)[:, 0], expected)


def test_each_pair_of_each_clip_is_estimated_for_itself() -> None:
    flow = RAFTFlow(raft_small(), iterations=2)
    clips = torch.rand(2, 10, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    both = flow(clips)  # 18 pairs: more than pass together
    assert both.shape == (2, 9, 2, 16, 24)
    torch.testing.assert_close(flow(clips[1:, 7:]), both[1:, 7:], rtol=1e-3, atol=1e-3)


def test_a_folder_is_loaded_and_wrong_ones_are_named(tmp_path: Path) -> None:
    network = raft_small()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    config = {"kind": "torchvision.raft_small", "iterations": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    flow = load_flow(tmp_path)
    assert flow.iterations == 2
    assert not flow.training
    clip = torch.rand(1, 2, 3, 16, 16)
    torch.testing.assert_close(flow(clip), RAFTFlow(network, 2)(clip))
    for wrong, message in (
        ({"kind": "torchvision.raft_large"}, "holds no weights of raft_large: "),
        ({"kind": "torchvision.raft"}, "must hold a kind, torchvision. and one of raft_large, raf"),
        ({**config, "iteratoins": 3}, "must hold a kind, .* and iterations, got"),
        ({**config, "iterations": 0}, "iterations must be at least 1, got 0"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=message):
            load_flow(tmp_path)
