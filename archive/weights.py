"""Copies and converts weights; everything that goes into an archive is safetensors."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from videopure.archive.spec import BuildError
from videopure.format.integrity import FolderFiles, weight_dtypes

__all__ = [
    "HOLDS_MORE",
    "copy_weights",
    "holds_pickled_module",
    "read_pickled",
    "save_weights",
]

HOLDS_MORE = (
    "may hold more than weights, so it is not loaded: save its state_dict with "
    "safetensors.torch.save_file where you trust it"
)


def copy_weights(source: Path, target: Path, dtype: torch.dtype | None) -> None:
    """Copy a safetensors file, optionally with its floating-point weights in another dtype."""
    present = weight_dtypes(FolderFiles(source.parent), source.name)
    if dtype is None or present <= {str(dtype).removeprefix("torch.")}:
        shutil.copyfile(source, target)  # without reading gigabytes into memory
        return
    with safe_open(source, framework="pt") as weights:
        tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
        save_weights(tensors, target, dtype)


def save_weights(
    weights: Mapping[str, Tensor], target: Path, dtype: torch.dtype | None = None
) -> None:
    """Write weights as safetensors; tensors that share memory are written separately."""
    converted = {
        name: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor)
        .contiguous()
        .clone()
        for name, tensor in weights.items()
    }
    save_file(converted, target, metadata={"format": "pt"})


def holds_pickled_module(file: Path) -> bool:
    """Whether `torch.save` wrote a file that is named like a program; nothing is loaded.

    `torch.save` writes a zip with a `data.pkl`, and before 1.6 wrote a bare pickle. A TorchScript's
    zip has a `constants.pkl` too, and a `torch.export` program's has no `data.pkl`.
    """
    if not zipfile.is_zipfile(file):
        with file.open("rb") as content:
            return content.read(1) == pickle.PROTO
    with zipfile.ZipFile(file) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    return "data.pkl" in names and "constants.pkl" not in names


def read_pickled(part: str, file: Path) -> dict[str, Tensor]:
    """Weights from a PyTorch pickle, read with the loader that admits only tensors.

    Raises:
        BuildError: if there is anything else in it.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BuildError(f"{part} {file} is a pickle that {HOLDS_MORE}") from error
    except (RuntimeError, EOFError, OSError) as error:
        raise BuildError(f"{part} {file} is damaged: {error}") from error
    for key in ("state_dict", "model"):  # wrappers of training scripts
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise BuildError(
            f"{part} {file} is not a dictionary of tensors: save the model's state_dict"
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
