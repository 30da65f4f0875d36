"""Tiny random-weight recognisers of the real classes, saved by the libraries themselves."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["FAMILIES", "LABELS", "processor_settings", "save_transformers", "tiny_model"]

LABELS = {0: "wave", 1: "jump", 2: "run"}
FAMILIES: tuple[str, ...] = ("videomae", "timesformer", "vivit", "vjepa2")
if find_spec("transformers.models.videoprism") is not None:  # the lowest versions have none
    FAMILIES += ("videoprism",)
SIZE = 16
_SMALL = {
    "image_size": SIZE,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "num_frames": 4,
    "id2label": LABELS,
    "label2id": {name: index for index, name in LABELS.items()},
}
# What the published checkpoints' processors hold, but for the sizes: (0.45, 0.225) is that of
# TimeSformer's, which are saved under VideoMAE's class.
_MEANS = {
    "videomae": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "timesformer": ([0.45, 0.45, 0.45], [0.225, 0.225, 0.225]),
    "vivit": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "vjepa2": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "videoprism": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
}


def tiny_model(family: str) -> Any:
    """A model with random weights, in evaluation mode; 4 frames of 16x16, 3 labels."""
    import transformers as t  # heavy

    torch.manual_seed(0)
    if family == "videomae":
        return t.VideoMAEForVideoClassification(t.VideoMAEConfig(**_SMALL)).eval()
    if family == "timesformer":
        return t.TimesformerForVideoClassification(t.TimesformerConfig(**_SMALL)).eval()
    if family == "vivit":
        config = t.VivitConfig(**_SMALL, tubelet_size=[2, 8, 8])
        return t.VivitForVideoClassification(config).eval()
    if family == "videoprism":
        kept = {k: v for k, v in _SMALL.items() if k not in ("patch_size", "num_hidden_layers")}
        layers = {f"num_{kind}_layers": 1 for kind in ("spatial", "temporal", "auxiliary")}
        config = t.VideoPrismVisionConfig(**kept, **layers, tubelet_size=[1, 8, 8])
        return t.VideoPrismForVideoClassification(config).eval()
    small = {k: v for k, v in _SMALL.items() if k not in ("image_size", "num_frames")}
    config = t.VJEPA2Config(
        **small,
        crop_size=SIZE,
        frames_per_clip=4,
        mlp_ratio=1,
        num_pooler_layers=1,
        pred_hidden_size=16,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )
    return t.VJEPA2ForVideoClassification(config).eval()


def processor_settings(family: str, size: int = SIZE) -> dict[str, Any]:
    """The settings of a processor that prepares frames of `size`; larger before the crop."""
    mean, std = _MEANS[family]
    if family == "videoprism":
        return {
            "video_processor_type": "LlavaOnevisionVideoProcessor",
            "size": {"height": size, "width": size},
            "resample": 3,
            "image_mean": mean,
            "image_std": std,
        }
    return {
        "size": {"shortest_edge": size * 256 // 224},
        "crop_size": {"height": size, "width": size},
        "image_mean": mean,
        "image_std": std,
        **({"rescale_factor": 1 / 127.5, "offset": True} if family == "vivit" else {}),
    }


def save_transformers(
    family: str,
    folder: Path,
    processor: dict[str, Any] | None = None,
    processor_file: str = "preprocessor_config.json",
) -> nn.Module:
    """Save a tiny model and its processor's configuration; answers the model."""
    model: nn.Module = tiny_model(family)
    model.save_pretrained(folder)
    settings = processor_settings(family) if processor is None else processor
    (folder / processor_file).write_text(json.dumps(settings))
    return model
