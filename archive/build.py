"""One self-contained archive of a recogniser, a purifier and the code that serves them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as library_version
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from videopure.archive.hub import Source, find_source
from videopure.archive.licences import find_licence, is_restricted
from videopure.archive.model_config import render_model_config
from videopure.archive.pack import copy_code, pack
from videopure.archive.pipelines import FOLDERS, store_pipeline
from videopure.archive.recognisers import (
    StoredRecogniser,
    find_recogniser,
    store_recogniser,
)
from videopure.archive.spec import BuildError, BuildSpec, Report
from videopure.handler import __version__
from videopure.handler.contents import (
    FolderFiles,
    read_classes,
    weight_dtypes,
    weight_shapes,
)
from videopure.handler.manifest import (
    MANIFEST_NAME,
    Component,
    Manifest,
    ManifestError,
    digest_files,
)
from videopure.handler.settings import HandlerSettings
from videopure.handler.torchserve import load_service
from videopure.purifier import load_recogniser

__all__ = ["BuildError", "build", "build_archive"]

_NOT_FINITE = (
    "answers a grey clip with numbers that are not finite: its weights are damaged, or too large "
    "for their dtype"
)
LIBRARIES = ("torch", "diffusers", "numpy", "av", "opencv-python-headless")


def build_archive(
    recogniser: str | Path,
    pipeline: str | Path,
    out: Path,
    *,
    name: str = "videopure",
    version: str = "1.0",
    purifier_name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    report: Report = lambda step: None,
) -> Path:
    """Build an archive in the plainest case; see `BuildSpec` and `build`.

    `settings` is the `videopure` section of model-config.yaml.
    """
    spec = BuildSpec(
        recogniser=recogniser,
        pipeline=pipeline,
        out=out,
        name=name,
        version=version,
        purifier_name=purifier_name,
        config={"videopure": dict(settings)} if settings else {},
    )
    return build(spec, report)


def build(spec: BuildSpec, report: Report = lambda step: None) -> Path:
    """Write an archive that TorchServe serves as it is.

    Args:
        spec: what goes in.
        report: told each step as it begins.

    Raises:
        BuildError: if something is missing, damaged or does not fit.
        SettingsError: if a key of model-config.yaml is not known.
    """
    config = spec.check()
    recogniser = find_recogniser(spec)
    pipeline = find_source("pipeline", spec.pipeline, FOLDERS)
    accepted = check_licences({"recogniser": recogniser, "pipeline": pipeline}, spec, report)
    spec.out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the archive: the place that has room for it, and moving it is then no copy.
    with tempfile.TemporaryDirectory(prefix=".videopure-build-", dir=spec.out.parent) as folder:
        scratch = Path(folder)
        staging = scratch / "staging"
        staging.mkdir()
        report("Copying the code")
        copy_code(staging)
        report("Storing the purifier")
        store_pipeline(pipeline.path, staging / "pipeline")
        report("Storing the recogniser")
        stored = store_recogniser(spec, recogniser, staging / "recogniser", report)
        report("Recording every file")
        manifest = make_manifest(staging, spec, recogniser, stored, pipeline, accepted)
        (staging / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
        report("Checking that the parts fit together")
        _try_out(staging, config.videopure)
        config_file = scratch / "model-config.yaml"
        config_file.write_text(render_model_config(spec.config), encoding="utf-8")
        report("Packing the archive")
        packed = pack(staging, config_file, scratch, spec.name, spec.version)
        shutil.move(packed, spec.out)
    return spec.out


def check_licences(sources: Mapping[str, Source], spec: BuildSpec, report: Report) -> list[str]:
    """Report the licences found; the accepted ones among them that restrict use.

    Raises:
        BuildError: if one restricts use and was not accepted.
    """
    accepted = []
    for part, source in sources.items():
        licence = find_licence(source.path)
        report(f"Licence of the {part}: {licence or f'none found in {source.path}'}")
        if licence is not None and is_restricted(licence):
            if not spec.accept_licence:
                raise BuildError(
                    f"the {part} {source.origin} comes under {licence}, which restricts its use: "
                    "read it, and give --accept-licence if your use is allowed"
                )
            accepted.append(f"{part}: {licence}")
    return accepted


def make_manifest(
    staging: Path,
    spec: BuildSpec,
    recogniser: Source,
    stored: StoredRecogniser,
    pipeline: Source,
    accepted: list[str],
) -> Manifest:
    """The manifest of what lies in the staging folder."""
    try:
        loaded = load_recogniser(staging / "recogniser", trusted_program=stored.program)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BuildError(f"recogniser {recogniser.origin} cannot be loaded: {error}") from error
    return Manifest(
        name=spec.name,
        version=spec.version,
        videopure_version=__version__,
        recogniser=Component(
            name=stored.name,
            kind=type(loaded).__name__,
            licence=find_licence(recogniser.path),
            source=recogniser.origin,
            program=stored.program,
            **_contents(staging, "recogniser", loaded),
        ),
        purifier=Component(
            name=spec.purifier_name or pipeline.name,
            kind="VideoPurePipeline",
            licence=find_licence(pipeline.path),
            source=pipeline.origin,
            **_contents(staging, "pipeline"),
        ),
        accepted_licences=accepted,
        libraries={library: library_version(library) for library in LIBRARIES},
        files=digest_files(staging),
    )


def _contents(staging: Path, folder: str, program: nn.Module | None = None) -> dict[str, Any]:
    """Dtype, parameters and classes of what a folder holds.

    They are read from the safetensors; `program` is asked where there are none.
    """
    files = FolderFiles(staging)
    names = [file for file in files.names() if file.startswith(f"{folder}/")]
    shapes = [shape for file in names for _, shape in weight_shapes(files, file)]
    dtypes = {dtype for file in names for dtype in weight_dtypes(files, file)}
    parameters = sum(map(prod, shapes))
    if not shapes and program is not None:
        parameters = sum(parameter.numel() for parameter in program.parameters())
        dtypes = {str(p.dtype).removeprefix("torch.") for p in program.parameters()}
    return {
        "dtype": "+".join(sorted(dtypes)),
        "parameters": parameters,
        "classes": read_classes(files, folder, names),
    }


def _try_out(staging: Path, settings: HandlerSettings) -> None:
    """Load the parts as a worker will and answer one clip."""
    try:
        service = load_service(staging, settings, torch.device("cpu"))
        recogniser = service.defended.recogniser
        clip = torch.full((1, recogniser.num_frames, 3, *recogniser.frame_size), 0.5)
        (verdict,) = service.defended.answer(clip).verdicts
    except ManifestError as error:
        raise BuildError(str(error)) from error
    except ValueError as error:
        raise BuildError(f"the recogniser and the purifier do not fit together: {error}") from error
    if not torch.isfinite(verdict.undefended).all():
        raise BuildError(f"recogniser {recogniser.name!r} {_NOT_FINITE}")
    if not torch.isfinite(verdict.probabilities).all():
        raise BuildError(f"the purifier {_NOT_FINITE}")
