"""Frames are prepared as each checkpoint's own processor would, on the same decoded frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.recognisers import FAMILIES, processor_settings, save_transformers
from videopure.purifier import TransformersRecogniser, load_recogniser, prepare_clip
from videopure.purifier.clip import sample_frame_indices

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("torchvision")]

CLASSES = {
    "videomae": "VideoMAEVideoProcessor",
    "timesformer": "TimesformerVideoProcessor",
    "vivit": "VivitVideoProcessor",
    "vjepa2": "VJEPA2VideoProcessor",
    "videoprism": "LlavaOnevisionVideoProcessor",
}
SHAPES = {"landscape": (37, 61), "portrait": (50, 23), "exact": (16, 16), "small": (9, 12)}


def smooth(height: int, width: int, frames: int = 4) -> np.ndarray:
    """uint8 [T, H, W, 3] with edges and gradients, like a decoded video."""
    generator = torch.Generator().manual_seed(height * width)
    coarse = torch.rand(frames, 3, 6, 7, generator=generator)
    pixels = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()  # [T, H, W, 3]


def saved(family: str, folder: Path, **changes: Any) -> Any:
    """The library's processor, saved by itself beside a tiny model."""
    import transformers

    save_transformers(family, folder)
    (folder / "preprocessor_config.json").unlink()
    settings = processor_settings(family) | changes
    for key in ("offset", "video_processor_type"):
        settings.pop(key, None)
    processor = getattr(transformers, CLASSES[family])(**settings)
    processor.save_pretrained(folder)
    return processor


def compare(processor: Any, folder: Path, frames: np.ndarray) -> None:
    recogniser = load_recogniser(folder)
    assert isinstance(recogniser, TransformersRecogniser)
    (theirs,) = processor(list(frames), return_tensors="pt").values()
    clip = prepare_clip(frames, recogniser.framing)
    ours = recogniser.normalise(clip)
    assert ours.shape == theirs[0].shape
    # They round to whole grey levels after resizing, so half a level may be between us and, where
    # their integer arithmetic rounds the other way, another half.
    level = recogniser.normalise.scale / 255 / recogniser.normalise.std.flatten().min()
    resized = frames.shape[1:3] != (16, 16) or recogniser.framing.resize not in (None, 16)
    tolerance = 1.01 * float(level) if resized else 1e-5
    torch.testing.assert_close(ours, theirs[0], rtol=0, atol=tolerance)
    assert ours.std() > 10 * tolerance


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_those_of_the_librarys_processor(
    family: str, shape: str, tmp_path: Path
) -> None:
    if (family, shape) == ("videoprism", "small"):
        pytest.skip("bicubic enlarging overshoots, and they cut it off between rows and columns")
    processor = saved(family, tmp_path)
    compare(processor, tmp_path, smooth(*SHAPES[shape]))


@pytest.mark.parametrize(
    "changes",
    [
        {"size": {"shortest_edge": 16}},
        {"size": {"height": 18, "width": 22}},
        {"size": {"height": 16, "width": 16}, "do_center_crop": False},
        {"resample": 3},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [100, 110, 120], "image_std": [50, 60, 70]},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_each_setting_is_followed(changes: dict[str, Any], tmp_path: Path) -> None:
    processor = saved("videomae", tmp_path, **changes)
    compare(processor, tmp_path, smooth(37, 61))


def test_vivits_image_processor_is_followed_too(tmp_path: Path) -> None:
    """The class that ViViT's published checkpoints name; it resizes with PIL."""
    from transformers import VivitImageProcessor

    processor = VivitImageProcessor(**processor_settings("vivit"))
    save_transformers("vivit", tmp_path)
    processor.save_pretrained(tmp_path)
    compare(processor, tmp_path, smooth(37, 61))


def test_frames_are_sampled_as_the_processor_says(tmp_path: Path) -> None:
    processor = saved("videomae", tmp_path, do_sample_frames=True, num_frames=4)
    framing = load_recogniser(tmp_path).framing
    for total in (4, 7, 30, 301):
        indices = processor.sample_frames(_metadata(total), num_frames=4)
        assert sample_frame_indices(total, 4, framing.sampling) == indices.tolist()


def _metadata(total: int) -> Any:
    from transformers.video_utils import VideoMetadata

    return VideoMetadata(total_num_frames=total, fps=25.0)
