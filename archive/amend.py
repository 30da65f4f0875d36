"""Repacks an archive with other weights in the same layout."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from videopure.archive.model_config import render_model_config
from videopure.archive.pack import copy_code, pack
from videopure.archive.spec import BuildError
from videopure.archive.weights import save_weights
from videopure.format.manifest import CONFIG_NAME, MANIFEST_NAME, Manifest, digest_files
from videopure.format.operator import record_of
from videopure.format.settings import flat_keys, read_yaml
from videopure.purifier import __version__

__all__ = ["repack", "replace_weights"]

_MODELS = ("pipeline", "recogniser", "flow")


def replace_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Put new values into a folder's safetensors; files, names, shapes and dtypes stay.

    Args:
        folder: folder of one model, whose weights may be in several files.
        weights: values by name; all names may have a common prefix that those in the files lack.

    Raises:
        BuildError: naming a tensor that has no new value.
    """
    files = sorted(folder.glob("*.safetensors"))
    stored = {file: load_file(file) for file in files}
    names = [name for tensors in stored.values() for name in tensors]
    prefix = _prefix(folder, names, weights)
    for file, tensors in stored.items():
        new = {name: _new(weights[prefix + name], name, old) for name, old in tensors.items()}
        save_weights(new, file)


def _prefix(folder: Path, names: Sequence[str], weights: Mapping[str, Tensor]) -> str:
    """The prefix of the weights' names that the names in a folder's files lack."""
    if not names:
        raise BuildError(f"{folder} holds no safetensors")
    first, missing = names[0], names[0]
    for key in sorted((key for key in weights if key.endswith(first)), key=len):
        prefix = key.removesuffix(first)
        lacking = [name for name in names if prefix + name not in weights]
        if not lacking:
            return prefix
        missing = lacking[0]
    raise BuildError(f"weight {missing} of {folder} has no new value")


def _new(value: Tensor, name: str, old: Tensor) -> Tensor:
    if value.shape != old.shape:
        raise BuildError(
            f"weight {name} has the shape {list(old.shape)}, its new value {list(value.shape)}"
        )
    return value.detach().cpu().to(old.dtype)


def repack(
    root: Path,
    change: Callable[[Path], object],
    manifest: Manifest,
    config: Mapping[str, Any],
    out: Path,
) -> Path:
    """Repack an unpacked archive, with the code of this version and changed models.

    Args:
        root: the folder of an archive that holds its weights; it is not changed.
        change: called with a folder that holds a copy of the models, to change them there.
        manifest: the new manifest; file names, versions and digests are filled in here.
        config: content of model-config.yaml; keys that are not set keep their defaults.
        out: the archive to write, ending in `.mar`; an older one is replaced.

    Raises:
        BuildError: if it cannot be written.
    """
    if manifest.external_weights:
        raise BuildError("a thin archive does not hold the weights to change")
    if out.suffix != ".mar":
        raise BuildError(f"out must end in .mar, got {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".videopure-build-", dir=out.parent) as name:
        scratch = Path(name)
        staging = scratch / "staging"
        staging.mkdir()
        copy_code(staging)
        for model in _MODELS:
            if (root / model).is_dir():
                shutil.copytree(root / model, staging / model)
        change(staging)
        config_file = scratch / CONFIG_NAME
        text = render_model_config(config)
        config_file.write_text(text, encoding="utf-8")
        changes = {
            "name": out.stem,
            "videopure_version": __version__,
            "files": digest_files(staging),
            "config": record_of(text.encode()),
            "settings": flat_keys(read_yaml(text, CONFIG_NAME)),
        }
        described = manifest.model_copy(update=changes).model_dump_json(indent=2)
        (staging / MANIFEST_NAME).write_text(described, encoding="utf-8")
        shutil.move(pack(staging, config_file, scratch, out.stem, manifest.version), out)
    return out
