"""Family `transformers`: VideoMAE, TimeSformer, ViViT, V-JEPA 2, VideoPrism.

transformers is an extra.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from videopure.purifier.recognisers.base import Recogniser
from videopure.purifier.recognisers.processors import find_processor, read_processor

if TYPE_CHECKING:
    from videopure.purifier.recognisers.loading import RecogniserFolder

__all__ = ["TransformersRecogniser", "check_model_type", "load"]


class TransformersRecogniser(Recogniser):
    """A transformers video classifier.

    Args:
        model: as loaded by `AutoModelForVideoClassification`.
        processor: the checkpoint's own processor configuration; see `read_processor`.
        name: the model's name in answers.
    """

    def __init__(self, model: Any, processor: dict[str, Any], name: str) -> None:
        config = model.config
        # V-JEPA 2 names both differently.
        frames = config.frames_per_clip if "frames_per_clip" in config else config.num_frames
        size = config.crop_size if "crop_size" in config else config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        frame_size = (int(height), int(width))
        labels = [config.id2label[index] for index in range(config.num_labels)]
        framing, normalise = read_processor(processor, config.model_type, frame_size)
        super().__init__(name, int(frames), frame_size, labels, framing)
        self.model = model
        self.normalise = normalise
        self._argument = model.main_input_name

    def logits(self, frames: Tensor) -> Tensor:
        """See `Recogniser.logits`."""
        self.check_frames(frames)
        pixels = self.normalise(frames).to(self.model.dtype)
        output: Tensor = self.model(**{self._argument: pixels}).logits
        if output.ndim == 3 and output.shape[1] == 1:  # VideoPrism answers [B, 1, classes]
            output = output[:, 0]
        return self.check_logits(output, len(frames))


def check_model_type(model_type: str) -> None:
    """Raise ValueError unless transformers has a video classifier of this `model_type`.

    ImportError where transformers is not installed.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
    )

    known = sorted(MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES)
    if model_type not in known:
        raise ValueError(f"model_type must be one of {', '.join(known)}, got {model_type!r}")


def load(folder: RecogniserFolder) -> TransformersRecogniser:
    """Load a folder written by `save_pretrained`, with its processor's configuration.

    Raises:
        ValueError: if weights are missing, which the library would initialise at random.
    """
    from transformers import AutoModelForVideoClassification  # heavy, and an extra

    if "auto_map" in folder.config:
        raise ValueError(
            f"{folder.path} brings its own code (auto_map in its config.json), which is never run"
        )
    processor = find_processor(folder.path)
    model, found = AutoModelForVideoClassification.from_pretrained(
        folder.path,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=folder.dtype,
        output_loading_info=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise ValueError(
            f"{folder.path} lacks the weights {', '.join(missing[:3])} ({len(missing)} in all): "
            "use a checkpoint that was trained to classify, not one that was only pretrained"
        )
    name = Path(folder.config.get("_name_or_path") or folder.path).name
    return TransformersRecogniser(model, processor, name)
