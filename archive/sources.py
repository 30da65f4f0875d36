"""Checks of the folders that models come from, before anything is loaded from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from videopure.archive.spec import BuildError
from videopure.format.integrity import FolderFiles, is_pickle, weight_shapes

__all__ = ["check_file", "choose_weights", "read_config", "stored_dtype"]

# safetensors' names of dtypes -> torch's.
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Counters and tables of positions, which no conversion touches.
_INTEGERS = {"I64", "I32", "BOOL"}


def choose_weights(part: str, folder: Path, stem: str) -> list[Path]:
    """The checked weight files of a model's folder.

    Safetensors are preferred to pickles, and plain files to a variant (`model.fp16.safetensors`);
    shards come with their index.

    Args:
        part: the model's role, for messages.
        stem: their file name in the library that wrote them.

    Raises:
        BuildError: naming the file that is missing, damaged, a pickle under another name, or of
            a dtype that cannot be served.
    """
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        files = [index, *_shards(part, index)]
    elif (folder / f"{stem}.safetensors").is_file():
        files = [folder / f"{stem}.safetensors"]
    else:
        files = sorted(folder.glob(f"{stem}.*.safetensors"))[:1]
    if not files:
        files = _pickles(part, folder)
    for file in files:
        if file.suffix == ".safetensors":
            check_file(part, file)
    return files


def _pickles(part: str, folder: Path) -> list[Path]:
    """The only pickle of weights, which can be converted."""
    found = sorted(folder.glob("*pytorch_model*.bin"))
    plain = [file for file in found if file.stem.count(".") == 0] or found
    if len(plain) != 1:
        shards = f" but {len(plain)} pickles, of which only one can be converted" if plain else ""
        raise BuildError(
            f"{part} {folder} holds no safetensors{shards}: load it where you trust it and save "
            "it again with save_pretrained"
        )
    return plain


def stored_dtype(files: Sequence[Path]) -> str:
    """The dtype of the first floating-point weight in safetensors files, by torch's name."""
    for file in files:
        for dtype, _ in weight_shapes(FolderFiles(file.parent), file.name):
            if dtype in FLOATS:
                return FLOATS[dtype]
    raise BuildError(f"{files[0].parent} holds no floating-point weights")


def read_config(part: str, file: Path) -> dict[str, Any]:
    """A JSON configuration.

    Raises:
        BuildError: if it is missing or not a JSON object.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BuildError(f"{part} {file.parent} has no {file.name}") from None
    except ValueError as error:
        raise BuildError(f"{part} {file} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise BuildError(f"{part} {file} must hold keys and values, got {config!r}")
    return config


def check_file(part: str, file: Path) -> None:
    """Check one safetensors file; see `choose_weights`."""
    files = FolderFiles(file.parent)
    if is_pickle(files, file.name):
        raise BuildError(
            f"{part} {file} is a pickle under another name: loading it could run any code"
        )
    try:
        with safe_open(file, framework="pt"):  # checks the header against the file's length
            dtypes = {dtype for dtype, _ in weight_shapes(files, file.name)}
    except SafetensorError as error:
        raise BuildError(f"{part} {file} is damaged: {error}") from None
    for dtype in sorted(dtypes - set(FLOATS) - _INTEGERS):
        raise BuildError(f"{part} {file} holds {dtype} weights; use one of {', '.join(FLOATS)}")


def _shards(part: str, index: Path) -> list[Path]:
    """The shards of weights, which must all be next to their index."""
    names = set(read_config(part, index).get("weight_map", {}).values())
    for name in sorted(map(str, names)):
        if Path(name).name != name:
            raise BuildError(f"{part} {index} names {name!r}, which leaves the folder")
        if not (index.parent / name).is_file():
            raise BuildError(f"{part} {index} names {name}, which is missing")
    return [index.parent / name for name in sorted(map(str, names))]
