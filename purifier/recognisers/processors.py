"""Reads the processor configuration of a transformers checkpoint: how its frames are prepared.

The libraries' own processors need torchvision, so their steps are reimplemented here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from videopure.purifier.clip import Framing
from videopure.purifier.recognisers.base import Normalise

__all__ = ["PROCESSOR_FILES", "find_processor", "read_processor"]

PROCESSOR_FILES = (
    "processor_config.json",
    "video_preprocessor_config.json",
    "preprocessor_config.json",
)
_HALF = [0.5, 0.5, 0.5]
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
# Defaults of the libraries' classes, for keys that a configuration lacks, as old ones do; by the
# start of the class's name in lower case.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "videomae": {"image_mean": _HALF, "image_std": _HALF, "size": 224, "crop_size": 224},
    "timesformer": {**_IMAGENET, "size": 224, "crop_size": 224},
    "vivit": {
        "image_mean": _HALF,
        "image_std": _HALF,
        "size": 256,
        "crop_size": 224,
        "rescale_factor": 1 / 127.5,
        "offset": True,
    },
    "vjepa2": {**_IMAGENET, "crop_size": 256},
    # VideoPrism's checkpoints come with this one.
    "llavaonevision": {
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "size": {"height": 384, "width": 384},
        "do_center_crop": False,
        "resample": 3,
    },
}
_INTERPOLATION = {2: "bilinear", 3: "bicubic"}  # PIL's numbers


def find_processor(folder: Path) -> dict[str, Any]:
    """The processor configuration beside a transformers checkpoint.

    Raises:
        ValueError: if there is none.
    """
    for name in PROCESSOR_FILES:
        if (folder / name).is_file():
            config: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
            # processor_config.json of transformers 5 nests the video processor's own settings.
            inner = config.get("video_processor", config.get("image_processor", config))
            return dict(inner)
    raise ValueError(
        f"recogniser folder {folder} has none of {', '.join(PROCESSOR_FILES)}: save the "
        "checkpoint's processor beside it, so that its normalisation is known"
    )


def read_processor(
    config: dict[str, Any], model_type: str, frame_size: tuple[int, int]
) -> tuple[Framing, Normalise]:
    """How frames are brought to size, and how they are normalised.

    Args:
        config: the processor's configuration.
        model_type: of the model in the same folder, for configurations that name no class.
        frame_size: (height, width) that the model takes.

    Raises:
        ValueError: naming the setting that is not supported, or does not fit the model.
    """
    class_name = str(
        config.get("video_processor_type")
        or config.get("image_processor_type")
        or config.get("feature_extractor_type")
        or model_type
    )
    family = next((name for name in _DEFAULTS if class_name.lower().startswith(name)), None)
    if family is None:
        raise ValueError(
            f"the processor {class_name!r} must be one of {', '.join(sorted(_DEFAULTS))}: export "
            "the model as a program, with its normalisation in a YAML file"
        )
    settings = {**_DEFAULTS[family], **{k: v for k, v in config.items() if v is not None}}
    if class_name.lower() == "vivitvideoprocessor":
        settings["offset"] = True  # it always shifts, and its configuration does not say so
    return _framing(settings, family, frame_size), _normalise(settings)


def _framing(settings: dict[str, Any], family: str, frame_size: tuple[int, int]) -> Framing:
    sampling = "centre"
    if settings.get("do_sample_frames"):
        if settings.get("fps") is not None:
            raise ValueError(
                "the processor samples frames by fps, but frames are sampled evenly over the "
                "video here: set do_sample_frames to false in its configuration"
            )
        sampling = "start"  # as the library's evenly spaced indices
    if not settings.get("do_resize", True):
        return Framing(frame_size, sampling=sampling)
    crop = _size(settings.get("crop_size")) if settings.get("do_center_crop", True) else None
    if family == "vjepa2" and crop is not None:
        resize: int | tuple[int, int] = int(crop[0] * 256 / 224)  # regardless of its `size`
    else:
        resize = _resize(settings["size"])
    final = crop or ((resize, resize) if isinstance(resize, int) else resize)
    if final != frame_size:
        raise ValueError(
            f"the processor prepares frames of {final}, but the model takes {frame_size}: save a "
            "processor with crop_size and size that fit the model"
        )
    resample = settings.get("resample", 2)
    if resample not in _INTERPOLATION:
        raise ValueError(f"resample must be 2 (bilinear) or 3 (bicubic), got {resample!r}")
    return Framing(frame_size, resize, _INTERPOLATION[resample], sampling=sampling)


def _resize(size: Any) -> int | tuple[int, int]:
    """Length of the shorter side, or (height, width)."""
    if isinstance(size, dict) and "shortest_edge" in size:
        return int(size["shortest_edge"])
    return int(size) if isinstance(size, int | float) else _size(size)


def _size(size: Any) -> tuple[int, int]:
    """(height, width) of a size, in the forms that old and new configurations use."""
    if isinstance(size, int | float):
        return int(size), int(size)
    if isinstance(size, dict) and "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    raise ValueError(f"size and crop_size must hold height and width, got {size!r}")


def _normalise(settings: dict[str, Any]) -> Normalise:
    mean, std = [0.0] * 3, [1.0] * 3
    if settings.get("do_normalize", True):
        mean, std = (_three(settings[key]) for key in ("image_mean", "image_std"))
    # Processors start from pixels 0..255; ViViT's shifts them by one after scaling.
    rescale = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1
    shifted = settings.get("offset", False) and settings.get("do_rescale", True)
    return Normalise(mean, std, scale=255 * float(rescale), shift=1.0 if shifted else 0.0)


def _three(values: Any) -> list[float]:
    return [float(values)] * 3 if isinstance(values, int | float) else [float(v) for v in values]
