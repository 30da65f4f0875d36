"""Checks of the folders that models come from, before anything is loaded from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from videopure.archive.spec import BuildError
from videopure.handler.contents import FolderFiles, is_pickle, weight_shapes

__all__ = ["check_file", "check_weights", "read_config", "stored_dtype"]

# Names that safetensors gives them, to those that torch does.
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Counters and tables of positions, which no conversion touches.
_INTEGERS = {"I64", "I32", "BOOL"}


def check_weights(part: str, folder: Path) -> None:
    """Check all safetensors files of a folder.

    Raises:
        BuildError: naming the file that is missing, damaged, a pickle, or of a dtype that cannot
            be served.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BuildError(f"{part} {folder} holds no safetensors: pickled weights are not loaded")
    for file in files:
        check_file(part, file)
    for index in folder.glob("*.safetensors.index.json"):
        _check_shards(part, index)


def stored_dtype(folder: Path) -> str:
    """The dtype of a model's first floating-point weight, by torch's name."""
    files = FolderFiles(folder)
    for file in sorted(folder.glob("*.safetensors")):
        for dtype, _ in weight_shapes(files, file.name):
            if dtype in FLOATS:
                return FLOATS[dtype]
    raise BuildError(f"{folder} holds no floating-point weights")


def read_config(part: str, file: Path) -> dict[str, Any]:
    """A JSON configuration.

    Raises:
        BuildError: if it is missing or no JSON object.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BuildError(f"{part} {file.parent} has no {file.name}") from None
    except ValueError as error:
        raise BuildError(f"{part} {file} is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise BuildError(f"{part} {file} must hold keys and values, got {config!r}")
    return config


def check_file(part: str, file: Path) -> None:
    """Check one safetensors file; see `check_weights`."""
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


def _check_shards(part: str, index: Path) -> None:
    """The parts of weights that are spread over files lie beside their index, and all are there."""
    names = set(read_config(part, index).get("weight_map", {}).values())
    for name in sorted(map(str, names)):
        if Path(name).name != name:
            raise BuildError(f"{part} {index} names {name!r}, which leaves the folder")
        if not (index.parent / name).is_file():
            raise BuildError(f"{part} {index} names {name}, which is missing")
