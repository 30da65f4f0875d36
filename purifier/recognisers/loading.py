"""Finds the family of a recogniser folder and loads the recogniser with it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videopure.purifier.recognisers.base import Recogniser

__all__ = ["RecogniserFolder", "families", "load_recogniser"]

_SUFFIX = "_models"


@dataclass(frozen=True)
class RecogniserFolder:
    """The argument of a family's `load`.

    Args:
        path: the folder.
        config: content of its `config.json`.
        dtype: dtype for the weights.
        device: device for a program; weights are moved by `.to(device)` later.
        trusted_program: name of the program file that may be loaded; None allows no program.
    """

    path: Path
    config: dict[str, Any]
    dtype: torch.dtype
    device: torch.device
    trusted_program: str | None = None


def families() -> list[str]:
    """Names of the families that have a module."""
    package = importlib.import_module(__package__ or "")
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))


def load_recogniser(
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    trusted_program: str | None = None,
) -> Recogniser:
    """Load a recogniser from a local folder, in evaluation mode; nothing is downloaded.

    Args:
        folder: holds `config.json`, with a `kind` (`<family>.<model>`, see `RecogniserConfig`) or
            the `model_type` of a transformers video classifier, and safetensors.
        dtype: dtype for the weights; a program keeps its own.
        device: device for a program; move everything else with `.to(device)`.
        trusted_program: name of the program in the folder that may be loaded. A program is code:
            loading it can run anything.

    Raises:
        ValueError: if the folder holds no recogniser of a known family, or an untrusted program.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ValueError(f"recogniser folder {folder} has no config.json")
    config = json.loads(config_file.read_text(encoding="utf-8"))
    family = _family(config, config_file)
    module = importlib.import_module(f"{__package__}.{family}{_SUFFIX}")
    request = RecogniserFolder(folder, config, dtype, torch.device(device), trusted_program)
    recogniser: Recogniser = module.load(request)
    return recogniser.eval().requires_grad_(False)


def _family(config: Any, config_file: Path) -> str:
    if "kind" in config:
        family = str(config["kind"]).partition(".")[0]
        if family not in families():
            raise ValueError(
                f"kind in {config_file} must be of one of the families {', '.join(families())}, "
                f"got {config['kind']!r}"
            )
        return family
    if "model_type" in config:
        return "transformers"
    raise ValueError(f"{config_file} names neither a kind nor a model_type")
