"""One self-contained archive of a recogniser, a purifier and the code that serves them."""

from __future__ import annotations

import importlib.resources
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers.utils.logging import disable_progress_bar
from safetensors import safe_open

from videopure import handler, purifier
from videopure.handler import __version__
from videopure.handler.manifest import MANIFEST_NAME, Component, Manifest, digest_files
from videopure.handler.settings import HandlerSettings
from videopure.handler.torchserve import load_service
from videopure.purifier import VideoPurePipeline, load_recogniser

__all__ = ["BuildError", "build_archive"]

# What TorchServe reads of model-config.yaml; our own section stands beside it. The number of
# workers is left to config.properties: what stands here could not be changed there.
SERVING_DEFAULTS: dict[str, Any] = {
    "batchSize": 4,
    "maxBatchDelay": 50,
    "responseTimeout": 120,
    "startupTimeout": 300,
}
LIBRARIES = ("torch", "diffusers", "numpy", "av", "opencv-python-headless")
_RECOGNISER_FILES = ("*.json", "*.safetensors", "README.md", "LICENSE*")
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

Report = Callable[[str], object]


class BuildError(ValueError):
    """The archive cannot be built; the message says what to do."""


def build_archive(
    recogniser: Path,
    pipeline: Path,
    out: Path,
    *,
    name: str = "videopure",
    version: str = "1.0",
    purifier_name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    report: Report = lambda step: None,
) -> Path:
    """Write a zip-store archive that TorchServe serves as it is.

    Args:
        recogniser: folder that `load_recogniser` reads.
        pipeline: folder that `VideoPurePipeline.from_pretrained` reads; a text encoder in it is
            used once, for the prompt embedding, and left out.
        out: the archive to write, ending in `.mar`; an older one is replaced.
        name: the model's name in TorchServe; by default that of `out` must be the same.
        version: of the model.
        purifier_name: what the answers call the purifier; by default the pipeline folder's name.
        settings: the `videopure` section of model-config.yaml; see `HandlerSettings`.
        report: told each step as it begins.

    Raises:
        BuildError: if something is missing or does not fit.
    """
    if out.suffix != ".mar":
        raise BuildError(f"out must end in .mar, got {out}")
    for argument, folder in (("recogniser", recogniser), ("pipeline", pipeline)):
        if not folder.is_dir():
            raise BuildError(f"{argument} {folder} is not a folder")
    checked = HandlerSettings.parse(settings)
    with tempfile.TemporaryDirectory(prefix="videopure-build-") as scratch:
        staging = Path(scratch) / "staging"
        staging.mkdir()
        report("Copying the code")
        _copy_code(staging / "videopure")
        report("Storing the purifier")
        _store_pipeline(pipeline, staging / "pipeline")
        report("Storing the recogniser")
        _store_recogniser(recogniser, staging / "recogniser")
        purifier_name = purifier_name or pipeline.resolve().name
        _write_manifest(staging, name, version, recogniser, pipeline, purifier_name)
        report("Checking that the parts fit together")
        _try_out(staging, checked)
        config = Path(scratch) / "model-config.yaml"
        section = dict(settings or {})
        config.write_text(
            yaml.safe_dump({**SERVING_DEFAULTS, "videopure": section}, sort_keys=False),
            encoding="utf-8",
        )
        report("Packing the archive")
        packed = _pack(staging, config, Path(scratch), name, version)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(packed, out)
    return out


def _copy_code(target: Path) -> None:
    """The packages that serve, as a regular package that shadows any installed one."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for package in (handler, purifier):
        (source,) = package.__path__
        shutil.copytree(source, target / Path(source).name, ignore=ignore)
    (target / "__init__.py").write_text(
        f'"""VideoPure as it was when the archive was built."""\n\n__version__ = "{__version__}"\n',
        encoding="utf-8",
    )


def _store_pipeline(source: Path, target: Path) -> None:
    """Save the pipeline in the serving layout, in the dtype that its weights have."""
    disable_progress_bar()  # of diffusers: the build reports its own steps
    try:
        pipeline = VideoPurePipeline.from_pretrained(
            source,
            dtype=_stored_dtype(source / "unet"),
            local_files_only=True,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise BuildError(f"pipeline {source} cannot be loaded: {error}") from error
    pipeline.save_pretrained(target, safe_serialization=True)


def _stored_dtype(folder: Path) -> torch.dtype:
    """The dtype of a model's first weight."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BuildError(f"{folder} holds no safetensors: pickled weights are not loaded")
    with safe_open(files[0], framework="pt") as weights:
        name = weights.get_slice(next(iter(weights.keys()))).get_dtype()
    if name not in _DTYPES:
        raise BuildError(f"{files[0]} holds {name} weights; use one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _store_recogniser(source: Path, target: Path) -> None:
    """Copy what a recogniser needs; pickles and code stay behind."""
    if not list(source.glob("*.safetensors")):
        raise BuildError(
            f"recogniser {source} holds no safetensors: pickled weights are not loaded"
        )
    target.mkdir()
    for pattern in _RECOGNISER_FILES:
        for file in source.glob(pattern):
            shutil.copyfile(file, target / file.name)


def _write_manifest(
    staging: Path,
    name: str,
    version: str,
    recogniser: Path,
    pipeline: Path,
    purifier_name: str,
) -> None:
    loaded = load_recogniser(staging / "recogniser")
    manifest = Manifest(
        name=name,
        version=version,
        videopure_version=__version__,
        recogniser=Component(
            name=loaded.name, kind=type(loaded).__name__, licence=_licence(recogniser)
        ),
        purifier=Component(
            name=purifier_name, kind="VideoPurePipeline", licence=_licence(pipeline)
        ),
        libraries={library: library_version(library) for library in LIBRARIES},
        files=digest_files(staging),
    )
    (staging / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")


def _licence(folder: Path) -> str | None:
    """The `license` of the model card's front matter, in the folder or the one above it."""
    for card in (folder / "README.md", folder.parent / "README.md"):
        if card.is_file():
            text = card.read_text(encoding="utf-8")
            if text.startswith("---") and text.count("---") >= 2:
                front_matter = yaml.safe_load(text.split("---")[1])
                if isinstance(front_matter, dict) and "license" in front_matter:
                    return str(front_matter["license"])
    return None


def _try_out(staging: Path, settings: HandlerSettings) -> None:
    """Load the parts as a worker will and answer one clip."""
    try:
        load_service(staging, settings, torch.device("cpu")).warm_up()
    except ValueError as error:
        raise BuildError(f"the recogniser and the purifier do not fit together: {error}") from error


def _pack(staging: Path, config: Path, scratch: Path, name: str, version: str) -> Path:
    """Run torch-model-archiver in a folder of its own: it deletes `$TMPDIR/NAME` when it starts."""
    entry = importlib.resources.files("videopure.archive") / "templates" / "videopure_handler.py"
    export = scratch / "export"
    own_tmp = scratch / "tmp"
    export.mkdir()
    own_tmp.mkdir()
    with importlib.resources.as_file(entry) as handler_file:
        command = [
            sys.executable,
            "-c",
            "from model_archiver.model_packaging import generate_model_archive as main; main()",
            *("--model-name", name, "--version", version),
            *("--handler", str(handler_file), "--extra-files", str(staging)),
            *("--config-file", str(config), "--export-path", str(export)),
            *("--archive-format", "zip-store"),
        ]
        run = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": str(own_tmp)},
            capture_output=True,
            text=True,
            check=False,
        )
    packed = export / f"{name}.mar"
    if run.returncode or not packed.is_file():
        raise BuildError(f"torch-model-archiver failed: {run.stderr.strip() or run.stdout.strip()}")
    return packed
