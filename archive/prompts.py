"""Embeds a prompt with a text encoder that is used once and left out of the archive."""

from __future__ import annotations

from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from videopure.archive.hub import Source
from videopure.archive.sources import choose_weights, read_config
from videopure.archive.spec import BuildError
from videopure.purifier.models import LatentVideoModel
from videopure.purifier.networks import PromptEmbedding
from videopure.wire.installing import install_hint

__all__ = ["find_embedding"]

STEM = "diffusion_pytorch_model"
# Class of a text encoder -> class of its tokenizer, both from transformers.
TOKENIZERS = {
    "CLIPTextModel": "CLIPTokenizer",
    "T5EncoderModel": "T5Tokenizer",
    "UMT5EncoderModel": "T5Tokenizer",
}


def find_embedding(
    source: Source, family: type[LatentVideoModel], config: Mapping[str, Any], prompt: str | None
) -> PromptEmbedding:
    """The stored embedding, or that of a prompt by the pipeline's text encoder.

    Args:
        source: source of the pipeline.
        family: family of the pipeline.
        config: configuration of its denoiser.
        prompt: the prompt; None for the stored embedding or the empty prompt.
    """
    folder = source.path / "prompt_embedding"
    if not folder.is_dir():
        return _embed(source, family, config, prompt or "")
    if prompt is not None:
        raise BuildError(
            f"pipeline {source.origin} has the embedding of a prompt but no "
            f"text encoder: prompt {prompt!r} cannot be embedded"
        )
    choose_weights("pipeline", folder, STEM)
    stored: PromptEmbedding = PromptEmbedding.from_pretrained(folder, local_files_only=True)
    return stored


def _embed(
    source: Source, family: type[LatentVideoModel], config: Mapping[str, Any], prompt: str
) -> PromptEmbedding:
    wanted = family.text_encoder
    place = source.path / "text_encoder"
    found = (read_config("pipeline", place / "config.json").get("architectures") or [None])[0]
    if found != wanted:
        raise BuildError(f"pipeline {place} is a {found}; use {wanted}")
    encoder, tokenizer = _load(source, wanted)
    embedding = family.embed(encoder, tokenizer, prompt, config)
    tokens, length = len(tokenizer(prompt).input_ids), embedding.config.length
    if tokens > length:
        raise BuildError(
            f"prompt takes {tokens} tokens, more than the {length} of the text encoder: shorten "
            f"{prompt!r}"
        )
    return embedding


def _load(source: Source, kind: str) -> tuple[Any, Any]:
    """Text encoder and tokenizer of a pipeline."""
    try:
        import transformers
    except ImportError as error:
        raise BuildError(
            f"the text encoder of the prompt needs transformers: {install_hint('transformers')}"
        ) from error
    # Billions of parameters stay in the dtype they are stored in.
    dtype = torch.float32 if kind == "CLIPTextModel" else "auto"
    try:
        # A pickle is read with the loader that admits only tensors.
        encoder = getattr(transformers, kind).from_pretrained(
            source.path / "text_encoder", local_files_only=True, dtype=dtype
        )
        tokenizer = getattr(transformers, TOKENIZERS[kind]).from_pretrained(
            source.path / "tokenizer", local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError, UnpicklingError) as e:
        raise BuildError(
            f"pipeline {source.origin}: its text_encoder or tokenizer cannot be loaded: {e}"
        ) from e
    return encoder.eval(), tokenizer
