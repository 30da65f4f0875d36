"""Reads and writes the parts of the demo bundle."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet3DConditionModel
from safetensors.torch import save_file
from torch import nn

from videopure.format.settings import ModelConfig
from videopure.motions import BUNDLE, CONTROL, HARDENED
from videopure.motions.clips import CLASSES, FRAME_SIZE, NUM_FRAMES
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.networks import RECOGNISER_NETWORKS
from videopure.purifier.networks.prompt_embedding import PromptEmbedding
from videopure.purifier.pipeline import VideoPurePipeline
from videopure.purifier.recognisers import load_recogniser
from videopure.purifier.settings import PurifySettings

__all__ = [
    "DEMO_MODELS",
    "BundleSettings",
    "DemoModels",
    "demo_models",
    "load_defended",
    "make_scheduler",
    "save_pipeline",
    "save_recogniser",
]

# Folder of the recogniser and its settings, folder of the pipeline, and its name in answers.
DEMO_MODELS = {
    "hardened": (HARDENED, HARDENED, "demo-hardened"),
    "published": (BUNDLE, BUNDLE, "demo-unet3d"),
    "control": (CONTROL, BUNDLE, "demo-unet3d"),
}
# Served with the threshold at which this share of clean clips raises a false alarm.
FALSE_ALARMS = "0.01"


@dataclass(frozen=True)
class BundleSettings:
    """What bundle.json says about serving.

    Args:
        purification: the `purification` section of model-config.yaml, without its threshold.
        suspicion_thresholds: by false-alarm rate.
        change_thresholds: of the warning that a clip is unlike those of the training, by
            false-alarm rate; empty if the warning is off.
    """

    purification: dict[str, Any]
    suspicion_thresholds: dict[str, float]
    change_thresholds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, bundle: Path = BUNDLE) -> BundleSettings:
        """Read bundle.json."""
        data: dict[str, Any] = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        return cls(
            data["purification"], data["suspicion_thresholds"], data.get("change_thresholds", {})
        )

    def write(self, bundle: Path = BUNDLE) -> None:
        """Write bundle.json."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        (bundle / "bundle.json").write_text(text, encoding="utf-8")

    def purify_settings(self) -> PurifySettings:
        """The purifier's settings, with the thresholds for `FALSE_ALARMS`."""
        section = {"videopure": self.archive_settings()}
        return ModelConfig.parse(section).videopure.purification

    def archive_settings(self) -> dict[str, Any]:
        """The same as the `videopure` section of model-config.yaml."""
        section = {
            **self.purification,
            "suspicion_threshold": self.suspicion_thresholds.get(FALSE_ALARMS),
        }
        if FALSE_ALARMS in self.change_thresholds:
            section["change_threshold"] = self.change_thresholds[FALSE_ALARMS]
        return {"purification": section}


@dataclass(frozen=True)
class DemoModels:
    """The models that the demo's archive is built from, and their settings."""

    recogniser: Path
    pipeline: Path
    purifier_name: str
    settings: BundleSettings


def demo_models(name: str = "hardened") -> DemoModels:
    """The models of one line of the demo's comparison.

    Args:
        name: `hardened` is what the demo serves; `published` is VideoPure as in the paper, before a
            recogniser with standard training; `control` is the same purifier before the recogniser
            that was hardened without one.

    Raises:
        ValueError: if there are no such models.
    """
    if name not in DEMO_MODELS:
        raise ValueError(f"demo models must be one of {', '.join(DEMO_MODELS)}, got {name!r}")
    recogniser, pipeline, purifier_name = DEMO_MODELS[name]
    return DemoModels(
        recogniser / "recogniser",
        pipeline / "pipeline",
        purifier_name,
        BundleSettings.read(recogniser),
    )


def make_scheduler() -> DDIMScheduler:
    """A scheduler with the noise schedule of Stable Diffusion, configured for the purifier."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def save_recogniser(
    network: nn.Module,
    name: str,
    architecture: dict[str, int],
    folder: Path,
    *,
    num_frames: int = NUM_FRAMES,
    frame_size: tuple[int, int] = (FRAME_SIZE, FRAME_SIZE),
    labels: Sequence[str] = CLASSES,
) -> None:
    """Write a recogniser: fp16 safetensors, and a config.json that names its class."""
    kinds = {cls: kind for kind, cls in RECOGNISER_NETWORKS.items()}
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "kind": kinds[type(network)],
        "name": name,
        "num_frames": num_frames,
        "frame_size": list(frame_size),
        "labels": list(labels),
        "architecture": architecture,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {
        key: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for key, value in network.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")


def save_pipeline(unet: UNet3DConditionModel, codec: nn.Module, folder: Path) -> None:
    """Write a diffusers folder with fp16 weights."""
    prompt = PromptEmbedding.from_tensor(torch.zeros(1, 1, unet.config.cross_attention_dim))
    halves: list[Any] = [nn.Module.half(copy.deepcopy(part)) for part in (codec, unet, prompt)]
    pipeline = VideoPurePipeline(
        vae=halves[0], unet=halves[1], scheduler=make_scheduler(), prompt_embedding=halves[2]
    )
    pipeline.save_pretrained(folder)


def load_defended(
    bundle: Path = BUNDLE, settings: PurifySettings | None = None
) -> DefendedRecogniser:
    """The bundle's recogniser behind its purifier, in float32, with the settings of the server.

    `settings` replaces those of bundle.json.
    """
    pipeline = VideoPurePipeline.from_pretrained(bundle / "pipeline", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    if settings is None:
        settings = BundleSettings.read(bundle).purify_settings()
    return DefendedRecogniser(pipeline, load_recogniser(bundle / "recogniser"), settings)
