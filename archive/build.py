"""Builds one self-contained archive of a recogniser, a purifier and the code that serves them."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version as library_version
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from videopure.archive.flows import find_flow, store_flow
from videopure.archive.hub import Source, find_source
from videopure.archive.learned import within_learned
from videopure.archive.licences import find_licence, is_restricted
from videopure.archive.model_config import render_model_config
from videopure.archive.motion import find_motion_file
from videopure.archive.pack import copy_code, lay_out, pack
from videopure.archive.pipelines import FOLDERS, store_pipeline
from videopure.archive.recognisers import (
    StoredRecogniser,
    find_recogniser,
    store_recogniser,
)
from videopure.archive.spec import BuildError, BuildSpec, Report
from videopure.archive.staging import Staging
from videopure.archive.trial import try_out
from videopure.format.external_weights import complete_folder
from videopure.format.integrity import read_classes, weight_dtypes, weight_shapes
from videopure.format.manifest import CONFIG_NAME, MANIFEST_NAME, Component, Fit, Manifest
from videopure.format.operator import record_of
from videopure.format.settings import (
    HandlerSettings,
    ModelConfig,
    Weights,
    flat_keys,
    read_yaml,
)
from videopure.purifier import __version__, load_recogniser

__all__ = ["BuildError", "build", "build_archive"]

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
    """Build an archive in the simplest case; see `BuildSpec` and `build`.

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
        spec: what to build.
        report: called with the name of each step as it starts.

    Raises:
        BuildError: if something is missing, damaged or does not fit.
        SettingsError: if a key of model-config.yaml is not known.
    """
    spec.check()
    sources = find_sources(spec)
    accepted = check_licences(sources, spec, report)
    settings, said = within_learned(spec.config, sources["pipeline"].path)
    spec, config = replace(spec, config=settings), ModelConfig.parse(settings)
    if said is not None:
        report(said)
    spec.out.parent.mkdir(parents=True, exist_ok=True)
    # Next to the archive: there is room for it, and moving it is not a copy.
    with tempfile.TemporaryDirectory(prefix=".videopure-build-", dir=spec.out.parent) as folder:
        scratch = Path(folder)
        staging = Staging.of(spec, scratch / "staging", report)
        try:
            manifest = _fill(staging, spec, sources, accepted)
            fit = _try(staging, spec, config.videopure, manifest)
        except BuildError as error:
            raise BuildError(_as_in_the_archive(str(error), scratch)) from error
        _write(manifest.model_copy(update={"fit": fit}), staging.root)
        config_file = scratch / CONFIG_NAME
        config_file.write_text(render_model_config(spec.config), encoding="utf-8")
        report("Packing the archive")
        make = lay_out if spec.folder else pack
        _replace(make(staging.root, config_file, scratch, spec.name, spec.version), spec.out)
    return spec.out


def _fill(
    staging: Staging, spec: BuildSpec, sources: Mapping[str, Source], accepted: list[str]
) -> Manifest:
    """Put code, models and their manifest into the staging folder."""
    staging.report("Copying the code")
    copy_code(staging.root)
    staging.report("Storing the purifier")
    store_pipeline(
        staging,
        sources["pipeline"],
        prompt=spec.prompt,
        motion_adapter=sources.get("motion adapter"),
        motion_lora=sources.get("motion LoRA"),
        decoder=sources.get("decoder"),
    )
    if "flow" in sources:
        store_flow(staging, sources["flow"])
    staging.report("Storing the recogniser")
    stored = store_recogniser(spec, sources["recogniser"], staging)
    staging.report("Recording every file")
    manifest = make_manifest(staging, spec, sources, stored, accepted)
    _write(manifest, staging.root)
    return manifest


def _try(
    staging: Staging, spec: BuildSpec, settings: HandlerSettings, manifest: Manifest
) -> Fit | None:
    """Load the result, and run a clip through it unless the spec says otherwise."""
    staging.report("Checking that the parts fit together")
    # Use the weights just found; the settings may name folders of another machine.
    here = settings.model_copy(update={"weights": Weights(), "allow_programs": spec.trust_program})
    if manifest.recogniser.program and not settings.allow_programs:
        staging.report(
            "Note: workers refuse the program until the settings say allow_programs: true"
        )
    return try_out(staging.root, here, run=spec.trial)


def _as_in_the_archive(message: str, scratch: Path) -> str:
    """The message with names in the archive instead of paths of temporary files."""
    here = "|".join(re.escape(str(path)) for path in (scratch.resolve(), scratch))
    links = rf"{re.escape(tempfile.gettempdir())}/videopure-\w+/"  # of `complete_folder`
    return re.sub(rf"(?:{here})/(?:staging|unet-\w+)/|{links}", "", message)


def _write(manifest: Manifest, root: Path) -> None:
    (root / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")


def _replace(made: Path, out: Path) -> None:
    """Move the result into place, replacing an older one."""
    if made.is_dir() and out.is_dir():
        out.rename(made.parent / "older")  # removed with the scratch folder
    shutil.move(made, out)


def find_sources(spec: BuildSpec) -> dict[str, Source]:
    """The location of each model; those on the hub are fetched.

    Raises:
        BuildError: if there is nothing, or options do not go together.
    """
    sources = {
        "recogniser": find_recogniser(spec),
        "pipeline": find_source("pipeline", spec.pipeline, FOLDERS),
    }
    if spec.decoder is not None:
        sources["decoder"] = find_source("decoder", spec.decoder)
    for part, where in (
        ("motion adapter", spec.motion_adapter),
        ("motion LoRA", spec.motion_lora),
    ):
        if where is not None:
            sources[part] = find_motion_file(part, where) or find_source(part, where)
    flow = find_flow(spec)
    return sources | ({"flow": flow} if flow else {})


def check_licences(sources: Mapping[str, Source], spec: BuildSpec, report: Report) -> list[str]:
    """Report the licences found; return the accepted ones that restrict use.

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
    staging: Staging,
    spec: BuildSpec,
    sources: Mapping[str, Source],
    stored: StoredRecogniser,
    accepted: list[str],
) -> Manifest:
    """The manifest of the staging folder and of external weights."""
    recogniser, pipeline = sources["recogniser"], sources["pipeline"]
    try:
        with complete_folder(staging.root, staging.located) as folder:
            loaded = load_recogniser(folder / "recogniser", trusted_program=stored.program)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BuildError(f"recogniser {recogniser.origin} cannot be loaded: {error}") from error
    parts = {
        name: f"{source.origin} ({find_licence(source.path) or 'no licence found'})"
        for name, source in sources.items()
        if name in ("motion adapter", "motion LoRA", "decoder")
    }
    flow = sources.get("flow")
    config = render_model_config(spec.config)
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
            parts=parts,
            **_contents(staging, "pipeline"),
        ),
        flow=None
        if flow is None
        else Component(
            name=flow.name,
            kind="RAFTFlow",
            licence=find_licence(flow.path),
            source=flow.origin,
            **_contents(staging, "flow"),
        ),
        accepted_licences=accepted,
        libraries={library: library_version(library) for library in LIBRARIES},
        files=staging.records(),
        external_weights=staging.external_weights,
        config=record_of(config.encode()),
        settings=flat_keys(read_yaml(config, CONFIG_NAME)),
    )


def _contents(staging: Staging, folder: str, program: nn.Module | None = None) -> dict[str, Any]:
    """Dtype, parameters and classes of a folder's models.

    They are read from the safetensors, or from `program` if there are none.
    """
    files = staging.files
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
