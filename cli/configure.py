"""`videopure configure` and `sign`: change the settings of a built archive, and sign it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from videopure.cli.inspect import alarm_line
from videopure.cli.options import ARCHIVE, AsJson
from videopure.cli.terminal import console, errors, fail

__all__ = ["configure", "sign"]

Archive = Annotated[Path, typer.Argument(help="Archive, or the folder of one.")]


def configure(
    archive: Archive = ARCHIVE,
    chosen: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="key=value of model-config.yaml, such as batchSize=8 or "
            "videopure.purification.votes=full; repeatable.",
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="YAML file of such keys, nested.", exists=True, dir_okay=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change the settings of a built archive, and record the change.

    Without --set and --settings, the edited model-config.yaml of a folder archive is recorded. A
    signature is no longer valid afterwards and is removed.
    """
    with errors.status("Loading torch"):
        from videopure.archive.configure import configure_archive
        from videopure.format.manifest import ManifestError
        from videopure.format.settings import SettingsError, read_yaml

    try:
        changes: dict[str, Any] | None = None
        if settings is not None:
            changes = read_yaml(settings.read_text(encoding="utf-8"), str(settings)) or {}
        for line in chosen or ():
            changes = _set(changes or {}, line)
        summary = configure_archive(archive, changes)
    except (ManifestError, SettingsError, OSError) as error:
        raise fail(str(error)) from error
    if as_json:
        print(json.dumps({"archive": str(archive), "changed": summary.changed}))
        return
    if not summary.changed:
        console.print(f"{archive} has the settings it was built with")
    for key, (before, now) in summary.changed.items():
        console.print(f"{key}: {now} (built with: {before})", highlight=False)
    if summary.config.videopure.outdated_calibration:
        errors.print(f"Warning: {alarm_line(summary)}", highlight=False)


def _set(changes: dict[str, Any], line: str) -> dict[str, Any]:
    """The changes plus one of the form `a.b.c=value`, whose value is YAML."""
    from videopure.format.settings import read_yaml

    path, sign_, value = line.partition("=")
    if not (path.strip() and sign_):
        raise fail(f"--set must be key=value, got {line!r}", code=2)
    section = changes
    *parents, last = path.strip().split(".")
    for name in parents:
        inner = section.setdefault(name, {})
        if not isinstance(inner, dict):
            raise fail(f"--set {line!r}: {name} is not a section", code=2)
        section = inner
    section[last] = read_yaml(value, f"--set {path}")
    return changes


def sign(
    archive: Archive = ARCHIVE,
    key: Annotated[
        Path, typer.Option(help="PEM file of an Ed25519 private key.", exists=True, dir_okay=False)
    ] = Path("videopure-key.pem"),
) -> None:
    """Sign an intact archive, so that `verify`, `serve` and workers can require it.

    Make keys with `openssl genpkey -algorithm ed25519 -out videopure-key.pem` and
    `openssl pkey -in videopure-key.pem -pubout -out videopure-key.pub`.
    """
    with errors.status("Loading torch"):
        from videopure.archive.configure import sign_archive
        from videopure.format.manifest import ManifestError
        from videopure.format.settings import SettingsError

    try:
        with errors.status("Checking every file"):
            sign_archive(archive, key)
    except (ManifestError, SettingsError) as error:
        raise fail(str(error)) from error
    console.print(f"{archive} is signed")
