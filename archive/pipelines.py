"""Stores a diffusion model in the served layout, without its text encoder.

Weights are copied file by file without building a model, except for AnimateDiff; see `motion`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import __version__ as diffusers_version
from diffusers.utils.logging import disable_progress_bar

from videopure.archive.hub import Source
from videopure.archive.motion import MOTION_SCHEDULE, store_motion_unet
from videopure.archive.prompts import find_embedding
from videopure.archive.sources import choose_weights, read_config
from videopure.archive.spec import BuildError
from videopure.archive.staging import Staging
from videopure.purifier.models import FAMILIES, LatentVideoModel
from videopure.purifier.networks import PromptEmbedding

__all__ = ["FOLDERS", "store_pipeline"]

# Folders of a repository on the hub.
FOLDERS = (
    "unet",
    "transformer",
    "transformer_2",
    "vae",
    "scheduler",
    "inverse_scheduler",
    "text_encoder",
    "tokenizer",
    "prompt_embedding",
)
STEM = "diffusion_pytorch_model"


def store_pipeline(
    staging: Staging,
    source: Source,
    *,
    prompt: str | None = None,
    motion_adapter: Source | None = None,
    motion_lora: Source | None = None,
    decoder: Source | None = None,
) -> None:
    """Store `pipeline/`.

    Raises:
        BuildError: naming the part that is missing, damaged or of a class that cannot be served.
    """
    disable_progress_bar()  # diffusers': the build reports its own steps
    target = staging.root / "pipeline"
    index: dict[str, Any] = {
        "_class_name": "VideoPurePipeline",
        "_diffusers_version": diffusers_version,
    }
    if motion_adapter is None:
        place, name = _find_denoiser(source)
        family = FAMILIES[name]
        if place.name == "transformer_2":
            staging.report("Note: of the two transformers, the one for low noise is used")
        index[family.folder] = _store_network(
            staging, "pipeline", source, place, {name: "diffusers"}, target / family.folder
        )
    else:
        family = FAMILIES["UNetMotionModel"]
        index["unet"] = store_motion_unet(
            staging, source, motion_adapter, motion_lora, target / "unet"
        )
    index["vae"] = _store_network(
        staging, "pipeline", source, source.path / "vae", family.codecs, target / "vae"
    )
    if decoder is not None:
        index["decoder"] = _store_decoder(staging, decoder, family, target / "decoder")
    index["scheduler"] = _store_scheduler(source, family, target, motion=motion_adapter is not None)
    if family.folder == "unet" and (source.path / "inverse_scheduler").is_dir():
        shutil.copytree(source.path / "inverse_scheduler", target / "inverse_scheduler")
        index["inverse_scheduler"] = ["diffusers", "DDIMInverseScheduler"]
    dtype = staging.dtype_of(target / family.folder)
    config = read_config("pipeline", target / family.folder / "config.json")
    found = find_embedding(source, family, config, prompt)
    stored = PromptEmbedding.from_tensor(found.embedding.to(dtype), found.config.prompt)
    if not torch.isfinite(stored.embedding).all():
        raise BuildError(
            f"pipeline {source.origin}: the prompt's embedding is not finite in {dtype}: choose "
            "another --dtype"
        )
    stored.save_pretrained(target / "prompt_embedding")
    index["prompt_embedding"] = [PromptEmbedding.__module__, "PromptEmbedding"]
    (target / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _find_denoiser(source: Source) -> tuple[Path, str]:
    """The folder of the diffusion model itself, and its class, which belongs to a family.

    Of two transformers, for high and for low noise, the latter: purification visits the lowest
    noise levels.
    """
    places = [source.path / name for name in ("transformer_2", "transformer", "unet")]
    place = next((p for p in places if (p / "config.json").is_file()), None)
    if place is None:
        raise BuildError(_no_pipeline(source))
    found = str(read_config("pipeline", place / "config.json").get("_class_name"))
    if found == "UNet2DConditionModel":
        raise BuildError(
            f"pipeline {place} is a {found}, which models no motion: give a --motion-adapter "
            "to make it AnimateDiff"
        )
    if found not in FAMILIES:
        raise BuildError(
            f"pipeline {place} is a {found}, a family that is not supported; use one of "
            f"{', '.join(FAMILIES)}"
        )
    return place, found


def _no_pipeline(source: Source) -> str:
    """What is wrong with a folder without a diffusers diffusion model."""
    config_file = source.path / "config.json"
    config = read_config("pipeline", config_file) if config_file.is_file() else {}
    kind = config.get("kind") or (config.get("architectures") or [None])[0]
    if kind is not None:
        return (
            f"pipeline {source.origin} is a {kind}, not a diffusion model: give a recogniser with "
            "--recogniser"
        )
    if "_class_name" in config:
        return (
            f"pipeline {source.origin} is only a {config['_class_name']}: give the folder of "
            "the whole pipeline, in the layout of diffusers, with vae and scheduler"
        )
    return (
        f"pipeline {source.origin} has neither unet/config.json nor transformer/config.json: give "
        "a folder in the layout of diffusers"
    )


def _store_network(
    staging: Staging,
    part: str,
    source: Source,
    place: Path,
    classes: Mapping[str, str],
    target: Path,
) -> list[str]:
    """Store one network's folder; returns its entry in model_index.json."""
    found = read_config(part, place / "config.json").get("_class_name")
    if found not in classes:
        raise BuildError(f"{part} {place} is a {found}; use {' or '.join(classes)}")
    files = choose_weights(part, place, STEM)
    target.mkdir(parents=True)
    shutil.copyfile(place / "config.json", target / "config.json")
    staging.add_weights(part, source, files, target, STEM)
    return [classes[str(found)], str(found)]


def _store_decoder(
    staging: Staging, decoder: Source, family: type[LatentVideoModel], target: Path
) -> list[str]:
    if not family.decoders:
        raise BuildError(
            f"decoder {decoder.origin}: a {family.__name__} cannot have one, as its codec decodes "
            "whole videos; leave --decoder out"
        )
    return _store_network(staging, "decoder", decoder, decoder.path, family.decoders, target)


def _store_scheduler(
    source: Source, family: type[LatentVideoModel], target: Path, *, motion: bool
) -> list[str]:
    """Store the scheduler that the family derives from the model's."""
    folder = source.path / "scheduler"
    file = folder / "scheduler_config.json"
    own = _Configured(read_config("pipeline", file) | (MOTION_SCHEDULE if motion else {}))
    try:
        kept = family.adopt(own)
    except ValueError as error:
        raise BuildError(f"pipeline {folder}: {error}") from error
    if kept is not own:
        kept.save_pretrained(target / "scheduler")
        return ["diffusers", type(kept).__name__]
    (target / "scheduler").mkdir()
    shutil.copyfile(file, target / "scheduler" / file.name)
    return ["diffusers", str(own.config["_class_name"])]


class _Configured:
    """A scheduler that is known only by its configuration."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
