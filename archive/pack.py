"""Copies the code into an archive and packs it with torch-model-archiver."""

from __future__ import annotations

import importlib.resources
import os
import shutil
import subprocess
import sys
from pathlib import Path

from videopure import format as archive_format
from videopure import handler, purifier, wire
from videopure.archive.spec import BuildError
from videopure.format.manifest import HANDLER_FILE
from videopure.purifier import __version__

__all__ = ["copy_code", "lay_out", "pack"]


def copy_code(staging: Path) -> None:
    """The entry file, and the packages for serving, which shadow installed ones."""
    entry = importlib.resources.files("videopure.archive") / "templates" / HANDLER_FILE
    (staging / HANDLER_FILE).write_bytes(entry.read_bytes())
    target = staging / "videopure"
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for package in (handler, archive_format, purifier, wire):
        (source,) = package.__path__
        shutil.copytree(source, target / Path(source).name, ignore=ignore)
    template = importlib.resources.files("videopure.archive") / "templates" / "package_init.py"
    text = template.read_text(encoding="utf-8").replace("VERSION", __version__)
    (target / "__init__.py").write_text(text, encoding="utf-8")


def pack(staging: Path, config: Path, scratch: Path, name: str, version: str) -> Path:
    """Pack the staging folder into one file; returns its path."""
    return _run_archiver(
        staging / HANDLER_FILE, config, scratch, name, version, "zip-store", staging
    )


def lay_out(staging: Path, config: Path, scratch: Path, name: str, version: str) -> Path:
    """Make the staging folder itself the archive, without copying weights; returns it."""
    frame = _run_archiver(staging / HANDLER_FILE, config, scratch, name, version, "no-archive")
    for path in frame.iterdir():
        if path.name != HANDLER_FILE:
            shutil.move(path, staging / path.name)
    return staging


def _run_archiver(
    handler: Path,
    config: Path,
    scratch: Path,
    name: str,
    version: str,
    archive_format: str,
    extra: Path | None = None,
) -> Path:
    """Run torch-model-archiver in its own folder: it deletes `$TMPDIR/NAME` when it starts."""
    export = scratch / "export"
    own_tmp = scratch / "tmp"
    export.mkdir()
    own_tmp.mkdir()
    command = [
        sys.executable,
        "-c",
        "from model_archiver.model_packaging import generate_model_archive as main; main()",
        *("--model-name", name, "--version", version, "--handler", str(handler)),
        *("--config-file", str(config), "--export-path", str(export)),
        *("--archive-format", archive_format),
        *(("--extra-files", str(extra)) if extra else ()),
    ]
    run = subprocess.run(
        command,
        env={**os.environ, "TMPDIR": str(own_tmp)},
        capture_output=True,
        text=True,
        check=False,
    )
    packed = export / (name if archive_format == "no-archive" else f"{name}.mar")
    if run.returncode or not packed.exists():
        raise BuildError(f"torch-model-archiver failed: {run.stderr.strip() or run.stdout.strip()}")
    return packed
