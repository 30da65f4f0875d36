"""The model's description: `GET /models/videopure?customized=true`."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from videopure.format.manifest import Manifest
from videopure.handler.requests import Options
from videopure.handler.service import VideoPureService
from videopure.purifier import __version__

__all__ = ["describe"]

_LIBRARIES = ("torch", "diffusers", "transformers", "av", "numpy", "opencv-python-headless")
# TorchServe omits keys without a value, so missing weights get a name here.
_DIS = {"name": "DIS", "kind": "DISFlow"}


def describe(service: VideoPureService, manifest: Manifest) -> dict[str, Any]:
    """Recogniser, purifier, flow, labels, options with their ranges, limits and versions."""
    defended, settings = service.defended, service.settings
    recogniser = defended.recogniser
    height, width = recogniser.frame_size
    parameter = next(defended.parameters())
    return {
        "model": {"name": manifest.name, "version": manifest.version},
        "recogniser": {
            **manifest.recogniser.model_dump(),
            "frames": recogniser.num_frames,
            "height": height,
            "width": width,
            "labels": recogniser.labels,
        },
        "purifier": {
            **manifest.purifier.model_dump(),
            **asdict(settings.purification),
        },
        "flow": _DIS if manifest.flow is None else manifest.flow.model_dump(),
        "options": _options(service),
        "policy": {**settings.policy.model_dump(), "max_work": settings.max_work},
        "similarity": settings.similarity.model_dump(),
        "limits": settings.limits.model_dump(),
        "max_clips_per_forward": service.max_clips,
        "device": str(parameter.device),
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "cuda_graphs": defended.pipeline.cuda_graphs and parameter.is_cuda,
        "versions": {
            "videopure": __version__,
            "python": platform.python_version(),
            **{name: found for name in _LIBRARIES if (found := _version(name)) is not None},
        },
    }


def _options(service: VideoPureService) -> dict[str, Any]:
    """JSON schema of each option, with the archive's own default and range."""
    settings = service.settings
    options: dict[str, Any] = Options.model_json_schema()["properties"]
    defaults = asdict(settings.purification)
    for name, option in options.items():
        option.pop("title", None)
        # "or null" stands for the archive's default, which is stated.
        option |= option.pop("anyOf", [{}])[0]
        if option.get("default") is None and name in defaults:
            option["default"] = defaults[name]
    options["inversion_steps"]["maximum"] = settings.max_inversion_steps
    options["clips"] |= {"maximum": settings.max_clips, "default": settings.default_clips}
    options["top_k"]["maximum"] = len(service.defended.recogniser.labels)
    return options


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
