"""Recognisers of human action behind one small interface.

An adapter takes frames in 0..1 and does the model's own normalisation inside, so that purified
clips, attacks and plain clips all enter at the same place.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from videopure.purifier.inputs import at_least_float32
from videopure.purifier.networks import RECOGNISER_NETWORKS

__all__ = ["NetworkRecogniser", "Recogniser", "TransformersRecogniser", "load_recogniser"]

PROCESSOR_FILES = (
    "video_preprocessor_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)


class Recogniser(nn.Module, ABC):
    """Names the action in a clip.

    Args:
        name: what the answers call the model.
        num_frames: frames T it takes.
        frame_size: (height, width) of the frames it takes.
        labels: the class names, in the order of the logits.
    """

    def __init__(
        self, name: str, num_frames: int, frame_size: tuple[int, int], labels: list[str]
    ) -> None:
        super().__init__()
        self.name = name
        self.num_frames = num_frames
        self.frame_size = frame_size
        self.labels = labels

    @abstractmethod
    def logits(self, frames: Tensor) -> Tensor:
        """Logits [B, classes], float32, of frames [B, T, 3, H, W] in 0..1; differentiable."""

    def forward(self, frames: Tensor) -> Tensor:
        """The same as `logits`."""
        return self.logits(frames)

    def check_frames(self, frames: Tensor) -> None:
        """Raise ValueError for frames of a shape that the model does not take."""
        expected = (self.num_frames, 3, *self.frame_size)
        if frames.ndim != 5 or tuple(frames.shape[1:]) != expected:
            raise ValueError(
                f"frames must have shape [B, {', '.join(map(str, expected))}] for recogniser "
                f"{self.name!r}, got {list(frames.shape)}"
            )


class NetworkRecogniser(Recogniser):
    """A network of this package that takes frames in 0..1 itself."""

    def __init__(
        self,
        network: nn.Module,
        name: str,
        num_frames: int,
        frame_size: tuple[int, int],
        labels: list[str],
    ) -> None:
        super().__init__(name, num_frames, frame_size, labels)
        self.network = network

    def logits(self, frames: Tensor) -> Tensor:
        """See `Recogniser.logits`."""
        self.check_frames(frames)
        dtype = next(self.network.parameters()).dtype
        output: Tensor = self.network(frames.to(dtype))
        return at_least_float32(output)

    @classmethod
    def from_folder(
        cls, folder: Path, config: dict[str, Any], dtype: torch.dtype
    ) -> NetworkRecogniser:
        """Load `config.json` and `model.safetensors`."""
        kind = config["kind"]
        if kind not in RECOGNISER_NETWORKS:
            raise ValueError(
                f"kind in {folder / 'config.json'} must be one of "
                f"{', '.join(sorted(RECOGNISER_NETWORKS))}, got {kind!r}"
            )
        labels = list(config["labels"])
        network = RECOGNISER_NETWORKS[kind](
            num_classes=len(labels), **config.get("architecture", {})
        )
        network.load_state_dict(load_file(folder / "model.safetensors"))
        height, width = config["frame_size"]
        return cls(
            network.to(dtype), config["name"], int(config["num_frames"]), (height, width), labels
        )


class TransformersRecogniser(Recogniser):
    """A transformers video classifier: VideoMAE, TimeSformer, ViViT.

    Args:
        model: what `AutoModelForVideoClassification` loads.
        processor: the checkpoint's own processor configuration (image_mean, image_std,
            rescale_factor, offset, do_rescale, do_normalize).
        name: what the answers call the model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, processor: dict[str, Any], name: str) -> None:
        config = model.config
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        labels = [config.id2label[index] for index in range(config.num_labels)]
        super().__init__(name, int(config.num_frames), (int(height), int(width)), labels)
        self.model = model
        normalise = processor.get("do_normalize", True)
        mean = processor["image_mean"] if normalise else [0.0] * 3
        std = processor["image_std"] if normalise else [1.0] * 3
        # Processors start from pixels 0..255; ViViT's shifts them by one as well.
        rescale = (
            processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1
        )
        self.pixel_scale = 255 * float(rescale)
        self.pixel_shift = 1.0 if processor.get("offset", False) else 0.0
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def logits(self, frames: Tensor) -> Tensor:
        """See `Recogniser.logits`."""
        self.check_frames(frames)
        scaled = at_least_float32(frames) * self.pixel_scale - self.pixel_shift
        pixels = ((scaled - self.mean) / self.std).to(self.model.dtype)
        output: Tensor = self.model(pixel_values=pixels).logits
        return at_least_float32(output)

    @classmethod
    def from_folder(
        cls, folder: Path, config: dict[str, Any], dtype: torch.dtype
    ) -> TransformersRecogniser:
        """Load a folder written by `save_pretrained`, with its processor configuration."""
        from transformers import AutoModelForVideoClassification  # heavy: only where it is used

        processor = _read_processor(folder)
        model = AutoModelForVideoClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
        name = Path(config.get("_name_or_path") or folder).name
        return cls(model, processor, name)


def load_recogniser(folder: str | Path, *, dtype: torch.dtype = torch.float32) -> Recogniser:
    """Load a recogniser from a local folder, in evaluation mode; nothing is downloaded.

    Args:
        folder: a network of this package (`config.json` with a `kind`, `model.safetensors`) or a
            transformers video classifier (`config.json` with a `model_type`, safetensors, the
            processor's configuration).
        dtype: of the weights.

    Raises:
        ValueError: if the folder holds neither.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ValueError(f"recogniser folder {folder} has no config.json")
    config = json.loads(config_file.read_text(encoding="utf-8"))
    recogniser: Recogniser
    if "kind" in config:
        recogniser = NetworkRecogniser.from_folder(folder, config, dtype)
    elif "model_type" in config:
        recogniser = TransformersRecogniser.from_folder(folder, config, dtype)
    else:
        raise ValueError(f"{config_file} names neither a kind nor a model_type")
    return recogniser.eval().requires_grad_(False)


def _read_processor(folder: Path) -> dict[str, Any]:
    """The processor configuration beside a transformers checkpoint."""
    for name in PROCESSOR_FILES:
        if (folder / name).is_file():
            config: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
            # processor_config.json of transformers 5 nests the video processor's own settings.
            return config.get("video_processor", config.get("image_processor", config))
    raise ValueError(
        f"recogniser folder {folder} has none of {', '.join(PROCESSOR_FILES)}: save the "
        "checkpoint's processor beside it, so that its normalisation is known"
    )
