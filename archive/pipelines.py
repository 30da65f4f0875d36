"""Stores a diffusion model in the layout that is served."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.utils.logging import disable_progress_bar

from videopure.archive.sources import check_weights, read_config, stored_dtype
from videopure.archive.spec import BuildError
from videopure.purifier import VideoPurePipeline

__all__ = ["FOLDERS", "store_pipeline"]

UNETS = ("UNet3DConditionModel", "UNetMotionModel")
CODECS = ("AutoencoderKL", "AutoencoderTiny", "PatchCodec")


# Of a repository on the hub.
FOLDERS = ("unet", "vae", "scheduler", "text_encoder", "tokenizer", "prompt_embedding")


def store_pipeline(source: Path, target: Path) -> None:
    """Save the pipeline in the serving layout, in the dtype that its weights have."""
    disable_progress_bar()  # of diffusers: the build reports its own steps
    for part, classes in (("unet", UNETS), ("vae", CODECS)):
        found = read_config("pipeline", source / part / "config.json").get("_class_name")
        if found not in classes:
            allowed = " or ".join(classes)
            raise BuildError(f"pipeline {source / part} is a {found}; use {allowed}")
        check_weights("pipeline", source / part)
    try:
        pipeline = VideoPurePipeline.from_pretrained(
            source,
            dtype=getattr(torch, stored_dtype(source / "unet")),
            local_files_only=True,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise BuildError(f"pipeline {source} cannot be loaded: {error}") from error
    pipeline.save_pretrained(target, safe_serialization=True)
