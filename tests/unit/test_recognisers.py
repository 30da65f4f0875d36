"""Adapters around tiny random-weight recognisers of the real classes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VivitConfig,
    VivitForVideoClassification,
)

from videopure.purifier import TransformersRecogniser, load_recogniser

pytestmark = pytest.mark.unit

LABELS = {0: "wave", 1: "jump", 2: "run"}
SMALL = {
    "image_size": 16,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "num_frames": 4,
    "id2label": LABELS,
    "label2id": {name: index for index, name in LABELS.items()},
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
FAMILIES = {
    "videomae": (VideoMAEForVideoClassification, VideoMAEConfig(**SMALL), IMAGENET),
    "timesformer": (TimesformerForVideoClassification, TimesformerConfig(**SMALL), IMAGENET),
    "vivit": (
        VivitForVideoClassification,
        VivitConfig(**SMALL, tubelet_size=[2, 8, 8]),
        # ViViT's processor maps 0..255 to -1..1 before it normalises.
        {
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "rescale_factor": 1 / 127.5,
            "offset": True,
        },
    ),
}


def save(
    family: str, folder: Path, processor_file: str = "preprocessor_config.json"
) -> torch.nn.Module:
    model_class, config, processor = FAMILIES[family]
    torch.manual_seed(0)
    model = model_class(config).eval()
    model.save_pretrained(folder)
    (folder / processor_file).write_text(json.dumps(processor))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_library_on_normalised_frames(family: str, tmp_path: Path) -> None:
    model = save(family, tmp_path)
    recogniser = load_recogniser(tmp_path)
    assert isinstance(recogniser, TransformersRecogniser)
    assert recogniser.labels == list(LABELS.values())
    assert (recogniser.num_frames, recogniser.frame_size) == (4, (16, 16))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 3, 16, 16)).astype(np.float32)
    processor = FAMILIES[family][2]
    scaled = pixels * processor.get("rescale_factor", 1 / 255) - (1 if "offset" in processor else 0)
    mean, std = (
        np.array(processor[key], dtype=np.float32).reshape(3, 1, 1)
        for key in ("image_mean", "image_std")
    )
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy((scaled - mean) / std).float()).logits
        ours = recogniser.logits(torch.from_numpy(pixels) / 255)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_logits_are_differentiable(tmp_path: Path) -> None:
    save("videomae", tmp_path)
    frames = torch.rand(1, 4, 3, 16, 16, requires_grad=True)
    load_recogniser(tmp_path).logits(frames).sum().backward()
    assert frames.grad is not None
    assert frames.grad.abs().sum() > 0


def test_processor_of_transformers_5_is_read(tmp_path: Path) -> None:
    save("videomae", tmp_path, "processor_config.json")
    config = tmp_path / "processor_config.json"
    config.write_text(json.dumps({"video_processor": {**IMAGENET, "image_mean": [0.1, 0.2, 0.3]}}))
    recogniser = load_recogniser(tmp_path)
    assert isinstance(recogniser, TransformersRecogniser)
    torch.testing.assert_close(recogniser.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    save("videomae", tmp_path)
    with pytest.raises(ValueError, match=r"\[B, 4, 3, 16, 16\].*got \[1, 5, 3, 16, 16\]"):
        load_recogniser(tmp_path).logits(torch.rand(1, 5, 3, 16, 16))


def test_missing_processor_says_what_to_do(tmp_path: Path) -> None:
    save("videomae", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"none of .*preprocessor_config\.json.*save the"):
        load_recogniser(tmp_path)


def test_a_folder_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_recogniser(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "names neither a kind nor a model_type"),
        ({"kind": "x"}, "kind in .* must be one of.*'x'"),
    ],
)
def test_an_unknown_recogniser_is_named(
    tmp_path: Path, config: dict[str, str], message: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        load_recogniser(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = save("videomae", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_recogniser(tmp_path)
