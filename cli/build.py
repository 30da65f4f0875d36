"""`videopure build`, `inspect` and `verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape

from videopure.cli.options import ARCHIVE, AsJson
from videopure.cli.terminal import console, errors, fail

if TYPE_CHECKING:  # imports torch, which takes seconds
    from videopure.format.opening import ArchiveSummary

__all__ = ["ARCHIVE", "register"]

Archive = Annotated[Path, typer.Argument(help="Archive, or the folder of one.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (build, inspect, verify):
        app.command()(command)


def build(
    demo: Annotated[bool, typer.Option("--demo", help="Use the demo's models.")] = False,
    recogniser: Annotated[
        str | None,
        typer.Option(help="Folder or hub id, torchvision:NAME, or a .pt2, .pt or .ts program."),
    ] = None,
    pipeline: Annotated[str | None, typer.Option(help="Diffusers folder or hub id.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights of a torchvision model: .safetensors or .pth.")
    ] = None,
    recogniser_config: Annotated[
        Path | None, typer.Option(help="YAML that describes a program or a torchvision model.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Class names: one a line, or a JSON list.")
    ] = None,
    trust_program: Annotated[
        bool, typer.Option("--trust-program", help="Let in a program, which is code.")
    ] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Agree to licences that restrict use.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(help="Convert weights to float16, bfloat16 or float32.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What the diffusion model is told; nothing by default.")
    ] = None,
    motion_adapter: Annotated[
        str | None,
        typer.Option(help="Folder or hub id: AnimateDiff of a Stable Diffusion --pipeline."),
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of an AutoencoderTiny for the same latents."),
    ] = None,
    flow: Annotated[
        str | None, typer.Option(help="raft_large or raft_small of torchvision; DIS by default.")
    ] = None,
    flow_weights: Annotated[
        Path | None, typer.Option(help="Weights of --flow: .safetensors or .pth.")
    ] = None,
    folder: Annotated[
        bool, typer.Option("--folder", help="An unpacked archive: for gigabytes of weights.")
    ] = False,
    thin: Annotated[
        bool, typer.Option("--thin", help="Leave weights where they are, pinned by SHA-256.")
    ] = False,
    trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Run a clip through the result.")
    ] = True,
    settings: Annotated[
        Path | None, typer.Option(help="YAML file with the archive's `videopure` settings.")
    ] = None,
    model_config: Annotated[
        Path | None,
        typer.Option(help="YAML file with all of model-config.yaml, instead of --settings."),
    ] = None,
    recogniser_name: Annotated[
        str | None, typer.Option(help="What the answers call the recogniser.")
    ] = None,
    purifier_name: Annotated[
        str | None, typer.Option(help="What the answers call the purifier.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=f"Archive to write: {ARCHIVE}, or without .mar with --folder."),
    ] = None,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1.0",
    as_json: AsJson = False,
) -> None:
    """Build the archive that TorchServe serves, and run a clip through it."""
    # torch and diffusers take seconds to import: only here, so that --help stays quick.
    with errors.status("Loading torch"):
        from videopure.archive import (
            BuildError,
            BuildSpec,
            inspect_archive,
        )
        from videopure.archive import build as build_archive
        from videopure.format.settings import SettingsError
        from videopure.motions import BUNDLE
        from videopure.motions.bundle_files import BundleSettings

    out = out or (ARCHIVE.with_suffix("") if folder else ARCHIVE)
    if demo == (recogniser is not None or pipeline is not None):
        raise fail("give either --demo, or both --recogniser and --pipeline")
    if settings is not None and model_config is not None:
        raise fail("give either --settings or --model-config")
    config: dict[str, Any] = {}
    if demo:
        purifier_name = purifier_name or "demo-unet3d"
        recogniser = str(BUNDLE / "recogniser")
        pipeline = str(BUNDLE / "pipeline")
        config = {"videopure": BundleSettings.read().archive_settings()}
    if recogniser is None or pipeline is None:
        raise fail("--recogniser and --pipeline are needed together")
    try:
        if settings is not None:
            config = {"videopure": _read_settings(settings)}
        if model_config is not None:
            config = _read_settings(model_config)
        spec = BuildSpec(
            recogniser=recogniser,
            pipeline=pipeline,
            out=out,
            name=out.stem,
            version=version,
            recogniser_name=recogniser_name,
            purifier_name=purifier_name,
            config=config,
            weights=weights,
            recogniser_config=recogniser_config,
            labels=labels,
            trust_program=trust_program,
            accept_licence=accept_licence,
            dtype=dtype,
            prompt=prompt,
            motion_adapter=motion_adapter,
            decoder=decoder,
            flow=flow,
            flow_weights=flow_weights,
            folder=folder,
            thin=thin,
            trial=trial,
        )
        output = errors if as_json else console
        with output.status("Building") as status:
            built = build_archive(spec, lambda step: _show(step, output, status.update))
        summary = inspect_archive(built)
    except (BuildError, SettingsError) as error:
        raise fail(str(error)) from error
    if as_json:
        print(json.dumps(_as_json(built, summary)))
        return
    console.print(f"Built {built} ({summary.size / 1e6:.1f} MB)")
    for line in _fit(summary):
        console.print(line, highlight=False)


def _show(step: str, output: Console, update: Any) -> None:
    """Steps come and go in the status line; what is found stays."""
    if step.startswith(("Converting", "Licence", "Note")):
        output.print(escape(step))
    else:
        update(step)


def _as_json(archive: Path, summary: ArchiveSummary) -> dict[str, Any]:
    """What a script wants to know of an archive: its manifest without the list of files."""
    manifest = summary.manifest.model_dump(mode="json", exclude={"files"})
    return {
        "archive": str(archive),
        "bytes": summary.size,
        "files": len(summary.manifest.files),
        **manifest,
    }


def _fit(summary: ArchiveSummary) -> Iterator[str]:
    """What the models weigh, and what a clip took when it was built."""
    components = summary.manifest.components.values()
    parameters = sum(component.parameters for component in components)
    yield f"{parameters:,} parameters"
    fit = summary.manifest.fit
    if fit is None:
        yield "no clip was tried (--no-trial)"
        return
    clip = "unknown" if fit.clip_bytes is None else f"{fit.clip_bytes / 1e6:,.0f} MB"
    yield (
        f"tried on {fit.device} in {fit.dtype}: loaded in {fit.load_s:.1f} s, models "
        f"{fit.model_bytes / 1e6:,.0f} MB; one clip {fit.clip_ms:,.0f} ms, {clip} beside them"
    )


def _read_settings(path: Path) -> dict[str, Any]:
    from videopure.format.settings import SettingsError, read_yaml

    try:
        content = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict | None):
        raise SettingsError(f"{path} must hold keys and values, got {content!r}")
    return content or {}


def inspect(
    archive: Archive = ARCHIVE,
    files: Annotated[bool, typer.Option("--files", help="Every file with its SHA-256.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what an archive holds: models, licences, settings, files. Loads and runs nothing."""
    with errors.status("Loading torch"):
        from videopure.format.manifest import ManifestError
        from videopure.format.opening import inspect_archive
        from videopure.format.settings import SettingsError

    try:
        summary = inspect_archive(archive)
    except (ManifestError, SettingsError) as error:
        raise fail(str(error)) from error
    if as_json:
        print(summary.manifest.model_dump_json(indent=2))
        return
    print("\n".join(_description(summary)))
    if files:
        for name, record in summary.manifest.files.items():
            print(f"{record.sha256}  {name}")


def _description(summary: ArchiveSummary) -> Iterator[str]:
    manifest = summary.manifest
    yield (
        f"{manifest.name} {manifest.version}: {len(manifest.files)} files, "
        f"{summary.size / 1e6:.1f} MB, built with VideoPure {manifest.videopure_version}"
    )
    for folder, component in manifest.components.items():
        yield f"{folder}: {component.name} ({component.kind}), from {component.source}"
        yield f"    licence: {component.licence or 'none found'}"
        yield f"    {component.parameters:,} parameters in {component.dtype}"
        for part, origin in component.parts.items():
            yield f"    {part}: {origin}"
        if component.program:
            yield f"    {component.program} is code, let in with --trust-program"
        for part, class_name in component.classes.items():
            yield f"    {part}: {class_name}"
    for part, place in manifest.elsewhere.items():
        where = place.folder or f"{place.repo}@{place.commit} in the hub's local cache"
        yield f"{len(place.files)} weight files of the {part} lie elsewhere: {where}"
    yield from _fit(summary)
    for licence in manifest.accepted_licences:
        yield f"licence accepted when it was built: {licence}"
    yield "settings that are not left to their defaults:"
    yield from yaml.safe_dump(summary.chosen, sort_keys=False).rstrip().splitlines()


def verify(archive: Archive = ARCHIVE, as_json: AsJson = False) -> None:
    """Check every file of an archive against its SHA-256, and its settings."""
    with errors.status("Loading torch"):
        from videopure.format.manifest import ManifestError
        from videopure.format.opening import verify_archive
        from videopure.format.settings import SettingsError

    try:
        with errors.status("Checking every file"):
            summary = verify_archive(archive)
    except (ManifestError, SettingsError) as error:
        if as_json:
            print(json.dumps({"archive": str(archive), "intact": False, "error": str(error)}))
            raise typer.Exit(1) from error
        raise fail(str(error)) from error
    files = len(summary.manifest.files)
    if as_json:
        print(json.dumps({"archive": str(archive), "intact": True, "files": files}))
    else:
        console.print(f"{archive} is intact: {files} files as recorded")
