"""Stores a recogniser in the served layout: `config.json` and safetensors, or a program."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videopure.archive.hub import Source, find_source
from videopure.archive.sources import check_file, choose_weights, read_config
from videopure.archive.spec import BuildError, BuildSpec, Report
from videopure.archive.staging import Staging
from videopure.archive.weights import HOLDS_MORE, holds_pickled_module
from videopure.format.settings import SettingsError, read_yaml
from videopure.purifier.recognisers import RecogniserConfig
from videopure.purifier.recognisers.program_models import PROGRAM_KINDS
from videopure.purifier.recognisers.torchvision_models import TORCHVISION_MODELS
from videopure.purifier.recognisers.transformers_models import check_model_type
from videopure.wire.installing import install_hint

__all__ = ["StoredRecogniser", "find_recogniser", "store_recogniser"]

TORCHVISION = "torchvision:"
_TEXTS = ("*.json", "README.md", "LICENSE*", "LICENCE*")
# Frames that torchvision's checkpoints were trained on; 16 for others.
_TORCHVISION_FRAMES = {"s3d": 128, "swin3d_t": 32, "swin3d_s": 32, "swin3d_b": 32}


@dataclass(frozen=True)
class StoredRecogniser:
    """The stored recogniser: its name in the answers, and its file that is code, if any."""

    name: str
    program: str | None = None


def find_recogniser(spec: BuildSpec) -> Source:
    """The location of the recogniser; one on the hub is fetched.

    Raises:
        BuildError: if there is nothing, or options do not go together.
    """
    where = str(spec.recogniser)
    if where.startswith(TORCHVISION):
        if spec.weights is None:
            raise BuildError(f"recogniser {where} needs --weights FILE: its .safetensors or .pth")
        if not spec.weights.is_file():
            raise BuildError(f"weights {spec.weights} is not a file")
        return Source(spec.weights, where, f"{where} {spec.weights.name}")
    program = Path(where)
    if program.suffix in PROGRAM_KINDS and not program.is_dir():
        if not program.is_file():
            raise BuildError(f"recogniser {program} is not a file")
        return Source(program, program.stem, program.name)
    for option in ("weights", "recogniser_config"):
        if getattr(spec, option) is not None:
            raise BuildError(
                f"{option} is for torchvision models and programs; recogniser {where} is neither"
            )
    return find_source("recogniser", where)


def store_recogniser(spec: BuildSpec, source: Source, staging: Staging) -> StoredRecogniser:
    """Store the recogniser that `find_recogniser` found in `recogniser/`.

    Raises:
        BuildError: if it is damaged, untrusted code, or not fully described.
    """
    target = staging.root / "recogniser"
    target.mkdir()
    if source.name.startswith(TORCHVISION):
        return _store_torchvision(spec, source, staging, target)
    if source.path.is_file():
        return _store_program(spec, source.path, target)
    return _store_folder(spec, source, staging, target)


def read_labels(file: Path) -> list[str]:
    """Class names from a file: one per line, a JSON list, or a JSON object from index to name."""
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if file.suffix == ".json" else text.splitlines()
        if isinstance(content, dict):
            content = [content[str(index)] for index in range(len(content))]
        labels = [str(label).strip() for label in content]
    except OSError as error:
        raise BuildError(f"labels {file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"labels {file} must be one per line, or a JSON list: {error!r}"
        ) from error
    labels = [label for label in labels if label]
    if not labels:
        raise BuildError(f"labels {file} is empty")
    return labels


def _store_folder(
    spec: BuildSpec, source: Source, staging: Staging, target: Path
) -> StoredRecogniser:
    if (source.path / "model_index.json").is_file():
        raise BuildError(
            f"recogniser {source.origin} is a diffusers pipeline (model_index.json): give a "
            "diffusion model with --pipeline"
        )
    config = read_config("recogniser", source.path / "config.json")
    if "auto_map" in config:
        raise BuildError(
            f"recogniser {source.origin} brings its own code (auto_map in its config.json), "
            "which is never run: export it with torch.export where you trust it, and build from "
            "the program"
        )
    for pattern in _TEXTS:
        for file in source.path.glob(pattern):
            if not file.name.endswith(".index.json"):  # which accompanies its shards
                shutil.copyfile(file, target / file.name)
    files = choose_weights("recogniser", source.path, "model")
    if "model_type" in config and "kind" not in config:
        _check_transformers(source, config)
    if files[0].suffix == ".bin" and "model_type" in config:
        # Through the library, which knows the names of weights in old checkpoints.
        staging.report(f"Converting the pickled weights {files[0].name} of the recogniser")
        _convert_transformers(source.path, target, spec.torch_dtype)
    else:
        staging.add_weights("recogniser", source, files, target, "model")
    _set_labels(spec, target / "config.json", staging.report)
    name = spec.recogniser_name or str(config.get("name") or source.name)
    return StoredRecogniser(name)


def _check_transformers(source: Source, config: dict[str, Any]) -> None:
    """Raise an error if the library is missing, or has no video classifier of this kind."""
    try:
        check_model_type(config["model_type"])
    except ImportError as error:
        raise BuildError(
            f"recogniser {source.origin} needs transformers: {install_hint('transformers')}"
        ) from error
    except ValueError as error:
        raise BuildError(
            f"recogniser {source.origin} is not a video classifier: {error}"
        ) from error


def _convert_transformers(source: Path, target: Path, dtype: torch.dtype | None) -> None:
    """Load pickled weights with the loader that admits only tensors, and save safetensors."""
    from transformers import AutoModelForVideoClassification

    try:
        model = AutoModelForVideoClassification.from_pretrained(
            source,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=False,
            weights_only=True,
            dtype=dtype or "auto",
        )
    except pickle.UnpicklingError as error:
        raise BuildError(f"recogniser {source} has pickled weights that {HOLDS_MORE}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise BuildError(
            f"recogniser {source} has pickled weights that cannot be converted: {error}"
        ) from error
    model.save_pretrained(target)


def _set_labels(spec: BuildSpec, config_file: Path, report: Report) -> None:
    """Put the labels of a file into a folder's configuration."""
    config = read_config("recogniser", config_file)
    if spec.labels is None:
        names = list(config.get("id2label", {}).values())
        if names and all(str(name).startswith("LABEL_") for name in names):
            report(
                f"Note: the recogniser calls its classes {names[0]} to {names[-1]}: see --labels"
            )
        return
    labels = read_labels(spec.labels)
    known = config["labels"] if "kind" in config else config.get("id2label", labels)
    _check_count(spec.labels, labels, len(known))
    if "kind" in config:
        config["labels"] = labels
    else:
        config["id2label"] = {str(index): label for index, label in enumerate(labels)}
        config["label2id"] = {label: index for index, label in enumerate(labels)}
    _write_json(config_file, config)


def _store_torchvision(
    spec: BuildSpec, source: Source, staging: Staging, target: Path
) -> StoredRecogniser:
    model = source.name.removeprefix(TORCHVISION)
    if model not in TORCHVISION_MODELS:
        raise BuildError(
            f"recogniser torchvision:{model} is not known: use one of "
            f"{', '.join(TORCHVISION_MODELS)}"
        )
    values = {**_torchvision_preset(model), **_described(spec)}
    if spec.labels is not None:
        values["labels"] = read_labels(spec.labels)
    config = _parsed(values, spec)
    if source.path.suffix == ".safetensors":
        check_file("weights", source.path)
    staging.add_weights("recogniser", source, [source.path], target, "model")
    _write_json(target / "config.json", config.to_dict())
    return StoredRecogniser(config.name)


def _torchvision_preset(model: str) -> dict[str, Any]:
    """torchvision's own data about its checkpoints of a model."""
    try:
        from torchvision.models import get_model_weights
    except ImportError as error:
        raise BuildError(
            "torchvision cannot be imported: install the torchvision that matches your torch"
        ) from error
    preset = get_model_weights(model).DEFAULT
    transforms = preset.transforms()
    resize = transforms.resize_size
    return {
        "kind": f"torchvision.{model}",
        "name": model,
        "num_frames": _TORCHVISION_FRAMES.get(model, 16),
        "frame_size": tuple(transforms.crop_size),
        "labels": list(preset.meta["categories"]),
        "mean": tuple(transforms.mean),
        "std": tuple(transforms.std),
        "resize": tuple(resize) if len(resize) == 2 else resize[0],
        "antialias": False,
        "centre": "round",
    }


def _store_program(spec: BuildSpec, program: Path, target: Path) -> StoredRecogniser:
    if not spec.trust_program:
        raise BuildError(
            f"recogniser {program} is a program: loading it runs whatever code it holds, here and "
            "in every worker. Give --trust-program if you made it or trust its maker"
        )
    if holds_pickled_module(program):
        raise BuildError(
            f"recogniser {program} was written by torch.save: it holds a pickled module or "
            "weights, not a program. Export the model with torch.export.save (.pt2) or "
            "torch.jit.save (.pt)"
        )
    if spec.recogniser_config is None:
        raise BuildError(
            f"recogniser {program} needs --recogniser-config FILE: YAML with frames, size, "
            "layout, mean, std and labels"
        )
    values = {
        "kind": PROGRAM_KINDS[program.suffix],
        "name": program.stem,
        **_described(spec),
        "program": program.name,
    }
    if spec.labels is not None:
        values["labels"] = read_labels(spec.labels)
    config = _parsed(values, spec)
    shutil.copyfile(program, target / program.name)
    _write_json(target / "config.json", config.to_dict())
    return StoredRecogniser(config.name, program.name)


def _described(spec: BuildSpec) -> dict[str, Any]:
    """Content of the YAML that describes a program or weights, by `RecogniserConfig`'s names."""
    file = spec.recogniser_config
    values: dict[str, Any] = {}
    if file is not None:
        try:
            content = read_yaml(file.read_text(encoding="utf-8"), str(file))
        except OSError as error:
            raise BuildError(
                f"recogniser_config {file} cannot be read: {error.strerror}"
            ) from error
        except SettingsError as error:
            raise BuildError(str(error)) from error
        if not isinstance(content, dict):
            raise BuildError(f"recogniser_config {file} must hold keys and values, got {content!r}")
        names = {"frames": "num_frames", "size": "frame_size"}
        values = {names.get(str(key), str(key)): value for key, value in content.items()}
        for key in ("kind", "program"):
            if key in values:
                raise BuildError(f"recogniser_config {file}: {key} follows from the recogniser")
        if isinstance(values.get("frame_size"), int):
            values["frame_size"] = (values["frame_size"], values["frame_size"])
        if isinstance(values.get("labels"), str):
            values["labels"] = read_labels(file.parent / values["labels"])
    return values | ({"name": spec.recogniser_name} if spec.recogniser_name else {})


def _parsed(values: dict[str, Any], spec: BuildSpec) -> RecogniserConfig:
    where = str(spec.recogniser_config or spec.recogniser)
    try:
        config = RecogniserConfig.from_dict(values, where)
        _ = config.framing  # fails if values do not go together
    except ValueError as error:
        message = str(error).replace("num_frames", "frames").replace("frame_size", "size")
        raise BuildError(message) from error
    return config


def _check_count(file: Path, labels: list[str], expected: int) -> None:
    if len(labels) != expected:
        raise BuildError(f"labels {file} holds {len(labels)} names for {expected} classes")


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
