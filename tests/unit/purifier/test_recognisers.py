"""Adapters around tiny random-weight recognisers of the real classes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.models import tiny_recogniser
from tests.support.recognisers import FAMILIES, LABELS, processor_settings, save_transformers
from videopure.purifier import TransformersRecogniser, load_recogniser, recognisers
from videopure.purifier.recognisers import families

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_library_on_normalised_frames(family: str, tmp_path: Path) -> None:
    model = save_transformers(family, tmp_path)
    recogniser = load_recogniser(tmp_path)
    assert isinstance(recogniser, TransformersRecogniser)
    assert recogniser.labels == list(LABELS.values())
    assert (recogniser.num_frames, recogniser.frame_size) == (4, (16, 16))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 3, 16, 16)).astype(np.float32)
    processor = processor_settings(family)
    scaled = pixels * processor.get("rescale_factor", 1 / 255) - (1 if "offset" in processor else 0)
    mean, std = (
        np.array(processor[key], dtype=np.float32).reshape(3, 1, 1)
        for key in ("image_mean", "image_std")
    )
    normalised = torch.from_numpy((scaled - mean) / std).float()
    with torch.no_grad():
        expected = model(normalised).logits.flatten(1)  # VideoPrism's are [B, 1, classes]
        ours = recogniser.logits(torch.from_numpy(pixels) / 255)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert ours.std() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_differentiable(family: str, tmp_path: Path) -> None:
    save_transformers(family, tmp_path)
    frames = torch.rand(1, 4, 3, 16, 16, requires_grad=True)
    load_recogniser(tmp_path).logits(frames).sum().backward()
    assert frames.grad is not None
    assert frames.grad.abs().sum() > 0


def test_processor_of_transformers_5_is_read(tmp_path: Path) -> None:
    settings = processor_settings("videomae") | {"image_mean": [0.1, 0.2, 0.3]}
    save_transformers("videomae", tmp_path, {"video_processor": settings}, "processor_config.json")
    recogniser = load_recogniser(tmp_path)
    assert isinstance(recogniser, TransformersRecogniser)
    mean = recogniser.normalise.mean.flatten()
    torch.testing.assert_close(mean, torch.tensor([0.1, 0.2, 0.3]))


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    save_transformers("videomae", tmp_path)
    with pytest.raises(ValueError, match=r"\[B, 4, 3, 16, 16\].*got \[1, 5, 3, 16, 16\]"):
        load_recogniser(tmp_path).logits(torch.rand(1, 5, 3, 16, 16))


def test_logits_of_another_shape_are_named(tmp_path: Path) -> None:
    save_transformers("videomae", tmp_path)
    loaded = load_recogniser(tmp_path)
    loaded.labels = ["wave"]
    with pytest.raises(ValueError, match=r"must answer logits of shape \[2, 1\] .*got \[2, 3\]"):
        loaded.logits(torch.rand(2, 4, 3, 16, 16))
    own = tiny_recogniser(4, (16, 16))
    own.network.head = torch.nn.Identity()
    with pytest.raises(
        ValueError, match=r"'tiny' must answer logits of shape \[1, 4\] .*got \[1, 8"
    ):
        own.logits(torch.rand(1, 4, 3, 16, 16))


def test_missing_processor_says_what_to_do(tmp_path: Path) -> None:
    save_transformers("videomae", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"none of .*preprocessor_config\.json.*save the"):
        load_recogniser(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_size": 32, "size": 32}, r"prepares frames of \(32, 32\), but the model .*\(16, 16"),
        ({"resample": 1}, "resample must be 2 .*got 1"),
        ({"do_sample_frames": True, "fps": 4}, "samples frames by fps.*do_sample_frames to false"),
        ({"image_std": [0, 1, 1]}, r"std must be above 0, got \[0\.0, 1\.0, 1\.0\]"),
        ({"size": {"longest_edge": 9}}, r"size and crop_size must hold .*got \{'longest_edge': 9"),
        ({"size": {"shortest_edge": 8}}, r"resize must be at least .*\(16, 16\), got 8"),
        ({"video_processor_type": "OtherProcessor"}, "'OtherProcessor' must be one of .*videomae"),
    ],
)
def test_a_processor_that_cannot_be_followed_is_named(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    save_transformers("videomae", tmp_path, processor_settings("videomae") | change)
    with pytest.raises(ValueError, match=message):
        load_recogniser(tmp_path)


def test_a_folder_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_recogniser(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "names neither a kind nor a model_type"),
        ({"kind": "x"}, "kind in .* of one of the families .*videopure, got 'x'"),
    ],
)
def test_an_unknown_recogniser_is_named(
    tmp_path: Path, config: dict[str, str], message: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        load_recogniser(tmp_path)


def test_every_family_is_one_module() -> None:
    assert families() == ["program", "torchvision", "transformers", "videopure"]


BRIGHTNESS = """
from videopure.purifier.recognisers.base import Recogniser

class Brightness(Recogniser):
    def logits(self, frames):
        mean = frames.mean(dim=(1, 2, 3, 4))
        return torch.stack((mean, 1 - mean), dim=1)

def load(folder):
    return Brightness("brightness", 4, (16, 16), folder.config["labels"])
"""


def test_a_new_family_is_one_small_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brightness_models.py").write_text("import torch\n" + BRIGHTNESS)
    (tmp_path / "config.json").write_text(
        '{"kind": "brightness.mean", "labels": ["light", "dark"]}'
    )
    places = [*recognisers.__path__, str(tmp_path)]
    monkeypatch.setattr(recognisers, "__path__", places)
    recogniser = load_recogniser(tmp_path)
    assert recogniser.labels[recogniser(torch.ones(1, 4, 3, 16, 16)).argmax()] == "light"
    monkeypatch.delitem(sys.modules, f"{recognisers.__name__}.brightness_models")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = save_transformers("videomae", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_recogniser(tmp_path)
