"""`videopure build`: the archive that TorchServe serves."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from videopure.cli.inspect import alarm_line, fit_lines
from videopure.cli.options import ARCHIVE, AsJson
from videopure.cli.terminal import console, errors, fail

if TYPE_CHECKING:  # imports torch, which takes seconds
    from videopure.archive import ArchiveSummary, BuildSpec

__all__ = ["build"]


def build(
    demo: Annotated[bool, typer.Option("--demo", help="Use the demo's models.")] = False,
    demo_models: Annotated[
        str | None,
        typer.Option(
            help="Which demo models: hardened; published, VideoPure as in the paper; or control, "
            "published VideoPure with a recogniser that was hardened without a purifier.",
            show_default="hardened",
        ),
    ] = None,
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
        Path | None, typer.Option(help="Class names: one per line, or a JSON list.")
    ] = None,
    trust_program: Annotated[
        bool, typer.Option("--trust-program", help="Accept a program, which is code.")
    ] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept licences that restrict use.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(help="Convert weights to float16, bfloat16 or float32.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Prompt of the diffusion model; empty by default.")
    ] = None,
    motion_adapter: Annotated[
        str | None,
        typer.Option(help="Folder, hub id or file: AnimateDiff of a Stable Diffusion --pipeline."),
    ] = None,
    motion_lora: Annotated[
        str | None, typer.Option(help="File, folder or hub id: the LoRA of a --motion-adapter.")
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
        bool, typer.Option("--folder", help="Write an unpacked archive: for gigabytes of weights.")
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
        str | None, typer.Option(help="Name of the recogniser in answers.")
    ] = None,
    purifier_name: Annotated[
        str | None, typer.Option(help="Name of the purifier in answers.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=f"Archive to write: {ARCHIVE}, or without .mar with --folder."),
    ] = None,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1.0",
    as_json: AsJson = False,
) -> None:
    """Build the archive that TorchServe serves, and run a clip through it."""
    options = dict(locals())  # before anything else is a local name
    # torch and diffusers take seconds to import: only here, so that --help stays quick.
    with errors.status("Loading torch"):
        from videopure.archive import BuildError, inspect_archive
        from videopure.archive import build as build_archive
        from videopure.format.settings import SettingsError

    try:
        spec = _spec(options)
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
    for line in (*fit_lines(summary), alarm_line(summary)):
        console.print(line, highlight=False)


def _spec(options: dict[str, Any]) -> BuildSpec:
    """The options as a `BuildSpec`, whose fields have the same names.

    Raises:
        typer.Exit: after saying which options do not go together.
        SettingsError: if a file of settings cannot be read.
    """
    from videopure.archive import BuildSpec
    from videopure.motions.bundle_files import demo_models

    demo, settings, model_config = (options[n] for n in ("demo", "settings", "model_config"))
    models = [options["recogniser"], options["pipeline"]]
    if demo == (models != [None, None]):
        raise fail("give either --demo, or both --recogniser and --pipeline")
    if options["demo_models"] is not None and not demo:
        raise fail("--demo-models goes with --demo")
    if settings is not None and model_config is not None:
        raise fail("give either --settings or --model-config")
    named = {field.name for field in fields(BuildSpec)}
    given = {name: value for name, value in options.items() if name in named}
    given["config"] = {}
    if demo:
        try:
            chosen = demo_models(options["demo_models"] or "hardened")
        except ValueError as error:
            raise fail(str(error)) from error
        given["recogniser"], given["pipeline"] = str(chosen.recogniser), str(chosen.pipeline)
        given["purifier_name"] = given["purifier_name"] or chosen.purifier_name
        given["config"] = {"videopure": chosen.settings.archive_settings()}
    elif None in models:
        raise fail("--recogniser and --pipeline are needed together")
    if settings is not None:
        given["config"] = {"videopure": _read_settings(settings)}
    if model_config is not None:
        given["config"] = _read_settings(model_config)
    out = given["out"] or (ARCHIVE.with_suffix("") if given["folder"] else ARCHIVE)
    return BuildSpec(**{**given, "out": out, "name": out.stem})


def _show(step: str, output: Console, update: Any) -> None:
    """Show steps in the status line; findings stay on the screen."""
    if step.startswith(("Converting", "Licence", "Note")):
        output.print(escape(step))
    else:
        update(step)


def _as_json(archive: Path, summary: ArchiveSummary) -> dict[str, Any]:
    """What scripts need to know about an archive: its manifest, without the list of files."""
    manifest = summary.manifest.model_dump(mode="json", exclude={"files"})
    return {
        "archive": str(archive),
        "bytes": summary.size,
        "files": len(summary.manifest.files),
        **manifest,
    }


def _read_settings(path: Path) -> dict[str, Any]:
    from videopure.format.settings import SettingsError, read_yaml

    try:
        content = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict | None):
        raise SettingsError(f"{path} must hold keys and values, got {content!r}")
    return content or {}
