"""Frame sampling and the shape of the clip that the models see."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videopure.purifier.clip import prepare_clip, sample_frame_indices

pytestmark = pytest.mark.unit


@given(st.integers(1, 500), st.integers(1, 64))
def test_indices_are_in_the_video_in_order_and_centred(total: int, num_frames: int) -> None:
    indices = sample_frame_indices(total, num_frames)
    assert len(indices) == num_frames
    assert indices == sorted(indices)
    assert indices[0] >= 0
    assert indices[-1] < total
    assert abs(indices[0] - (total - 1 - indices[-1])) <= 1


def test_a_video_of_the_right_length_keeps_every_frame() -> None:
    assert sample_frame_indices(16, 16) == list(range(16))


def test_a_short_video_repeats_its_frames_evenly() -> None:
    assert sample_frame_indices(2, 4) == [0, 0, 1, 1]


@pytest.mark.parametrize(("total", "num_frames"), [(0, 4), (4, 0)])
def test_nothing_to_sample_is_an_error(total: int, num_frames: int) -> None:
    with pytest.raises(ValueError, match=r"must be at least 1.*got 0"):
        sample_frame_indices(total, num_frames)


def test_frames_of_the_right_size_keep_their_pixels() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), dtype=np.uint8)
    clip = prepare_clip(frames, (16, 24))
    assert clip.shape == (4, 3, 16, 24)
    back = (clip * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(back, frames)


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (7, 3), (1, 1)])
def test_any_size_covers_the_frame_in_range(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    clip = prepare_clip(frames, (16, 16))
    assert clip.shape == (2, 3, 16, 16)
    assert clip.min() >= 0
    assert clip.max() <= 1


def test_the_centre_is_kept_and_the_aspect_ratio_too() -> None:
    frames = np.zeros((1, 20, 60, 3), dtype=np.uint8)
    frames[:, :, 20:40] = 255  # the middle third is what a square crop shows
    assert prepare_clip(frames, (20, 20)).min() == 1


def test_wrong_layout_is_named() -> None:
    with pytest.raises(ValueError, match=r"frames must be uint8 \[T, H, W, 3\], got float64"):
        prepare_clip(np.zeros((2, 8, 8, 3)), (8, 8))
