"""`videopure inspect` and `verify`: what an archive holds, and whether it is intact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videopure.cli.options import ARCHIVE, AsJson, RequiredKey
from videopure.cli.terminal import console, errors, fail

if TYPE_CHECKING:  # imports torch, which takes seconds
    from videopure.format.opening import ArchiveSummary

__all__ = ["alarm_line", "fit_lines", "inspect", "verify"]

Archive = Annotated[Path, typer.Argument(help="Archive, or the folder of one.")]


def inspect(
    archive: Archive = ARCHIVE,
    files: Annotated[bool, typer.Option("--files", help="Every file with its SHA-256.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what an archive holds: models, licences, settings, files. Loads and runs nothing."""
    with errors.status("Loading torch"):
        from videopure.format.manifest import ManifestError
        from videopure.format.opening import digest_archive, inspect_archive
        from videopure.format.settings import SettingsError

    try:
        summary = inspect_archive(archive)
    except (ManifestError, SettingsError) as error:
        raise fail(str(error)) from error
    if as_json:
        print(summary.manifest.model_dump_json(indent=2))
        return
    print("\n".join(_description(summary)))
    print(f"SHA-256 of models and settings: {digest_archive(archive)}")
    if files:
        for name, record in summary.manifest.files.items():
            print(f"{record.sha256}  {name}")


def verify(
    archive: Archive = ARCHIVE, require_signature: RequiredKey = None, as_json: AsJson = False
) -> None:
    """Check every file of an archive against its SHA-256, its settings and its signature."""
    with errors.status("Loading torch"):
        from videopure.format.manifest import ManifestError
        from videopure.format.opening import verify_archive
        from videopure.format.settings import SettingsError

    try:
        with errors.status("Checking every file"):
            summary = verify_archive(archive, require_signature)
    except (ManifestError, SettingsError) as error:
        if as_json:
            print(json.dumps({"archive": str(archive), "intact": False, "error": str(error)}))
            raise typer.Exit(1) from error
        raise fail(str(error)) from error
    files = len(summary.manifest.files)
    if as_json:
        told = {"archive": str(archive), "intact": True, "files": files}
        signed = {} if require_signature is None else {"signed": True}
        print(json.dumps({**told, **signed, "changed": summary.changed}))
        return
    by = "" if require_signature is None else f", signed by the key of {require_signature}"
    console.print(f"{archive} is intact: {files} files as recorded{by}")
    for line in _changes(summary):
        console.print(line, highlight=False)


def alarm_line(summary: ArchiveSummary) -> str:
    """Whether the alarm is on, and how to turn it on."""
    settings = summary.config.videopure
    threshold = settings.purification.suspicion_threshold
    if threshold is None:
        return (
            "the alarm is off: no clip is called adversarial. To turn it on: videopure calibrate "
            "CLEAN_VIDEOS --archive ARCHIVE"
        )
    if settings.outdated_calibration:
        return (
            f"the alarm is off: its thresholds were {settings.outdated_calibration}. To turn it "
            "on again: videopure calibrate"
        )
    made = settings.calibration
    on = f", for {made.false_alarms:.1%} false alarms by {made.clips} clips" if made.clips else ""
    return f"the alarm is on: suspicion above {threshold:g} is called adversarial{on}"


def fit_lines(summary: ArchiveSummary) -> Iterator[str]:
    """Parameters of the models, and the cost of a clip in the build's trial."""
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
        f"{fit.model_bytes / 1e6:,.0f} MB; one clip {fit.clip_ms:,.0f} ms, {clip} more"
    )


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
            yield f"    {component.program} is code, accepted with --trust-program"
        for part, class_name in component.classes.items():
            yield f"    {part}: {class_name}"
    for part, place in manifest.external_weights.items():
        where = place.folder or f"{place.repo}@{place.commit} in the hub's local cache"
        yield f"{len(place.files)} weight files of the {part} are elsewhere: {where}"
    yield from fit_lines(summary)
    yield alarm_line(summary)
    for hard in manifest.hardening:
        yield (
            f"hardened: {hard.train} through {hard.method}, {hard.recipe['clips']} clips of "
            f"{hard.clips}; of the validation clips {hard.clean:.1%} clean and {hard.attacked:.1%} "
            f"under PGD at {hard.recipe['validation_epsilon']:g}/255 were kept"
        )
    for licence in manifest.accepted_licences:
        yield f"licence accepted when it was built: {licence}"
    yield "settings that are not left to their defaults:"
    import yaml  # not installed with the client's own commands

    yield from yaml.safe_dump(summary.chosen, sort_keys=False).rstrip().splitlines()
    yield from _changes(summary)


def _changes(summary: ArchiveSummary) -> Iterator[str]:
    """The settings that the operator has changed since the archive was built."""
    for key, (before, now) in summary.changed.items():
        yield f"the operator set {key} to {now} (built with: {before})"
