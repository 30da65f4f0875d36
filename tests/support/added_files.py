"""A file that a package of the library holds for the length of a test."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

__all__ = ["add_file"]


def add_file(
    monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, name: str, code: str
) -> None:
    """Write NAME.py into a folder, and let the package look for its files there too."""
    (folder / f"{name}.py").write_text(code)
    parent = importlib.import_module(package)
    monkeypatch.setattr(parent, "__path__", [*parent.__path__, str(folder)])
    # What the test imports is forgotten again.
    monkeypatch.setitem(sys.modules, f"{package}.{name}", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, f"{package}.{name}")
