"""Stores a diffusion model in the layout that is served, without its text encoder.

Weights are taken file by file: no model is built for it, but for AnimateDiff's, which is put
together of an image model and a motion adapter.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers import __version__ as diffusers_version
from diffusers.utils.logging import disable_progress_bar
from safetensors import SafetensorError

from videopure.archive.hub import Source
from videopure.archive.sources import choose_weights, read_config, stored_dtype
from videopure.archive.spec import BuildError
from videopure.archive.staging import Staging
from videopure.format.settings import DTYPES
from videopure.purifier.networks import PatchCodec, PromptEmbedding
from videopure.purifier.networks.prompt_embedding import embed_prompt
from videopure.purifier.schedule import as_ddim
from videopure.wire.installing import install_hint

__all__ = ["FOLDERS", "store_pipeline"]

# Of a repository on the hub.
FOLDERS = (
    "unet",
    "vae",
    "scheduler",
    "inverse_scheduler",
    "text_encoder",
    "tokenizer",
    "prompt_embedding",
)
STEM = "diffusion_pytorch_model"

# Class of each part -> the library that diffusers imports it from. One line here lets in another
# class that is called like those it joins.
UNETS = {"UNet3DConditionModel": "diffusers", "UNetMotionModel": "diffusers"}
CODECS = {
    "AutoencoderKL": "diffusers",
    "AutoencoderTiny": "diffusers",
    "PatchCodec": PatchCodec.__module__,
}
DECODERS = {"AutoencoderTiny": "diffusers"}
# AnimateDiff's motion modules were trained on this schedule, whatever the image model was on.
_MOTION_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "timestep_spacing": "leading",
}


def store_pipeline(
    staging: Staging,
    source: Source,
    *,
    prompt: str | None = None,
    motion_adapter: Source | None = None,
    decoder: Source | None = None,
) -> None:
    """Store `pipeline/`.

    Raises:
        BuildError: naming the part that is missing, damaged or of a class that cannot be served.
    """
    disable_progress_bar()  # of diffusers: the build reports its own steps
    target = staging.root / "pipeline"
    index: dict[str, Any] = {
        "_class_name": "VideoPurePipeline",
        "_diffusers_version": diffusers_version,
    }
    if motion_adapter is None:
        index["unet"] = _store_part(staging, source, "unet", UNETS, target)
    else:
        index["unet"] = _store_motion_unet(staging, source, motion_adapter, target / "unet")
    index["vae"] = _store_part(staging, source, "vae", CODECS, target)
    if decoder is not None:
        index["decoder"] = _store_network(
            staging, "decoder", decoder, decoder.path, DECODERS, target / "decoder"
        )
    index["scheduler"] = _store_scheduler(source, target, motion=motion_adapter is not None)
    if (source.path / "inverse_scheduler").is_dir():
        shutil.copytree(source.path / "inverse_scheduler", target / "inverse_scheduler")
        index["inverse_scheduler"] = ["diffusers", "DDIMInverseScheduler"]
    dtype = _stored_dtype(staging, target / "unet")
    found = _prompt_embedding(source, prompt)
    stored = PromptEmbedding.from_tensor(found.embedding.to(dtype), found.config.prompt)
    stored.save_pretrained(target / "prompt_embedding")
    index["prompt_embedding"] = [PromptEmbedding.__module__, "PromptEmbedding"]
    (target / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _store_part(
    staging: Staging, source: Source, name: str, classes: dict[str, str], target: Path
) -> list[str]:
    """Store one folder of the pipeline; returns its entry in model_index.json."""
    place = source.path / name
    return _store_network(staging, "pipeline", source, place, classes, target / name)


def _store_network(
    staging: Staging,
    part: str,
    source: Source,
    place: Path,
    classes: dict[str, str],
    target: Path,
) -> list[str]:
    found = read_config(part, place / "config.json").get("_class_name")
    if found == "UNet2DConditionModel":
        raise BuildError(
            f"{part} {place} is a {found}, which knows no motion: give a --motion-adapter to make "
            "AnimateDiff of it"
        )
    if found not in classes:
        raise BuildError(f"{part} {place} is a {found}; use {' or '.join(classes)}")
    files = choose_weights(part, place, STEM)
    target.mkdir(parents=True)
    shutil.copyfile(place / "config.json", target / "config.json")
    staging.add_weights(part, source, files, target, STEM)
    return [classes[str(found)], str(found)]


def _store_motion_unet(
    staging: Staging, source: Source, adapter: Source, target: Path
) -> list[str]:
    """AnimateDiff's UNet, which is made here and so always goes into the archive."""
    part = source.path / "unet"
    for where, place, wanted in (
        ("pipeline", part, "UNet2DConditionModel"),
        ("motion adapter", adapter.path, "MotionAdapter"),
    ):
        found = read_config(where, place / "config.json").get("_class_name")
        if found != wanted:
            raise BuildError(f"{where} {place} is a {found}; a motion adapter needs {wanted}")
    if staging.thin:
        staging.report("Note: AnimateDiff's UNet is put together here: the archive holds it")
    staging.report("Putting AnimateDiff's UNet together")
    with tempfile.TemporaryDirectory(prefix="unet-", dir=staging.root.parent) as name:
        scratch = Staging(Path(name), staging.dtype, False, staging.report)
        networks = []
        for where, origin, place, kind in (
            ("pipeline", source, part, UNet2DConditionModel),
            ("motion adapter", adapter, adapter.path, MotionAdapter),
        ):
            folder = scratch.root / where
            scratch.add_weights(where, origin, choose_weights(where, place, STEM), folder, STEM)
            shutil.copyfile(place / "config.json", folder / "config.json")
            dtype = _stored_dtype(scratch, folder)
            networks.append(
                kind.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, dtype=dtype
                )
            )
        try:
            unet = UNetMotionModel.from_unet2d(*networks)
        except (ValueError, RuntimeError) as error:
            raise BuildError(
                f"motion adapter {adapter.origin} does not fit {source.origin}: {error}"
            ) from error
        unet.save_pretrained(target, safe_serialization=True)
    return ["diffusers", "UNetMotionModel"]


def _store_scheduler(source: Source, target: Path, *, motion: bool) -> list[str]:
    from diffusers import DDIMScheduler

    folder = source.path / "scheduler"
    config = read_config("pipeline", folder / "scheduler_config.json")
    own = _Configured({key: value for key, value in config.items() if not key.startswith("_")})
    ddim: DDIMScheduler = as_ddim(own, **(_MOTION_SCHEDULE if motion else {}))
    ddim.save_pretrained(target / "scheduler")
    return ["diffusers", "DDIMScheduler"]


class _Configured:
    """A scheduler that is known by its configuration alone."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config


def _stored_dtype(staging: Staging, folder: Path) -> torch.dtype:
    """Of the first weights in a folder of the archive, here or elsewhere."""
    prefix = folder.relative_to(staging.root).as_posix() + "/"
    names = [name for name in staging.files.names() if name.startswith(prefix)]
    paths = [staging.located.get(name, staging.root / name) for name in names]
    return DTYPES[stored_dtype(paths)]


def _prompt_embedding(source: Source, prompt: str | None) -> PromptEmbedding:
    """The stored embedding, or that of a prompt by the pipeline's text encoder."""
    folder = source.path / "prompt_embedding"
    if folder.is_dir():
        if prompt is not None:
            raise BuildError(
                f"pipeline {source.origin} comes with the embedding of a prompt and without a "
                f"text encoder: prompt {prompt!r} cannot be embedded"
            )
        choose_weights("pipeline", folder, STEM)
        stored: PromptEmbedding = PromptEmbedding.from_pretrained(folder, local_files_only=True)
        return stored
    config = read_config("pipeline", source.path / "text_encoder" / "config.json")
    found = (config.get("architectures") or [None])[0]
    if found != "CLIPTextModel":
        raise BuildError(f"pipeline {source.path / 'text_encoder'} is a {found}; use CLIPTextModel")
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise BuildError(
            f"the text encoder of the prompt needs transformers: {install_hint('transformers')}"
        ) from error
    try:
        # A pickle of it is read by the loader that admits tensors and nothing else.
        encoder = CLIPTextModel.from_pretrained(
            source.path / "text_encoder", local_files_only=True, dtype=torch.float32
        ).eval()
        tokenizer = CLIPTokenizer.from_pretrained(source.path / "tokenizer", local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise BuildError(
            f"pipeline {source.origin}: its text_encoder or tokenizer cannot be loaded: {error}"
        ) from error
    _check_length(tokenizer, prompt or "")
    return embed_prompt(encoder, tokenizer, prompt or "")


def _check_length(tokenizer: Any, prompt: str) -> None:
    tokens = len(tokenizer(prompt).input_ids)
    if tokens > tokenizer.model_max_length:
        raise BuildError(
            f"prompt takes {tokens} tokens, more than the {tokenizer.model_max_length} of the text "
            f"encoder: shorten {prompt!r}"
        )
