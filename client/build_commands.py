"""`videopure build`, `inspect` and `verify`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.markup import escape

from videopure.client.terminal import console, fail

if TYPE_CHECKING:  # imports torch, which takes seconds
    from videopure.archive.reading import ArchiveSummary

__all__ = ["ARCHIVE", "register"]

ARCHIVE = Path("model_store/videopure.mar")
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
    out: Annotated[Path, typer.Option(help="Archive to write.")] = ARCHIVE,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1.0",
) -> None:
    """Build the archive that TorchServe serves."""
    # torch and diffusers take seconds to import: only here, so that --help stays quick.
    with console.status("Loading torch"):
        from videopure.archive import BuildError, BuildSpec, demo_bundle, demo_settings
        from videopure.archive import build as build_archive
        from videopure.handler.settings import SettingsError

    if demo == (recogniser is not None or pipeline is not None):
        raise fail("give either --demo, or both --recogniser and --pipeline")
    if settings is not None and model_config is not None:
        raise fail("give either --settings or --model-config")
    config: dict[str, Any] = {}
    if demo:
        purifier_name = purifier_name or "demo-unet3d"
        recogniser = str(demo_bundle() / "recogniser")
        pipeline = str(demo_bundle() / "pipeline")
        config = {"videopure": demo_settings()}
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
        )
        with console.status("Building") as status:
            built = build_archive(spec, lambda step: _show(step, status.update))
    except (BuildError, SettingsError) as error:
        raise fail(str(error)) from error
    console.print(f"Built {built} ({built.stat().st_size / 1e6:.1f} MB)")


def _show(step: str, update: Any) -> None:
    """Steps come and go in the status line; what is found stays."""
    if step.startswith(("Converting", "Licence", "Note")):
        console.print(escape(step))
    else:
        update(step)


def _read_settings(path: Path) -> dict[str, Any]:
    from videopure.archive.model_config import read_yaml
    from videopure.handler.settings import SettingsError

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
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as JSON.")] = False,
) -> None:
    """Print what an archive holds: models, licences, settings, files. Loads and runs nothing."""
    with console.status("Loading torch"):
        from videopure.archive.reading import inspect_archive
        from videopure.handler.manifest import ManifestError
        from videopure.handler.settings import SettingsError

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
        if component.program:
            yield f"    {component.program} is code, let in with --trust-program"
        for part, class_name in component.classes.items():
            yield f"    {part}: {class_name}"
    for licence in manifest.accepted_licences:
        yield f"licence accepted when it was built: {licence}"
    yield "settings that are not left to their defaults:"
    yield from yaml.safe_dump(summary.chosen, sort_keys=False).rstrip().splitlines()


def verify(archive: Archive = ARCHIVE) -> None:
    """Check every file of an archive against its SHA-256, and its settings."""
    with console.status("Loading torch"):
        from videopure.archive.reading import verify_archive
        from videopure.handler.manifest import ManifestError
        from videopure.handler.settings import SettingsError

    try:
        with console.status("Checking every file"):
            summary = verify_archive(archive)
    except (ManifestError, SettingsError) as error:
        raise fail(str(error)) from error
    console.print(f"{archive} is intact: {len(summary.manifest.files)} files as recorded")
