"""Stores a recogniser in the layout that is served."""

from __future__ import annotations

import shutil
from pathlib import Path

from videopure.archive.sources import check_weights

__all__ = ["store_recogniser"]

_FILES = ("*.json", "*.safetensors", "README.md", "LICENSE*")


def store_recogniser(source: Path, target: Path) -> None:
    """Copy what a recogniser needs; pickles and code stay behind."""
    check_weights("recogniser", source)
    target.mkdir()
    for pattern in _FILES:
        for file in source.glob(pattern):
            shutil.copyfile(file, target / file.name)
