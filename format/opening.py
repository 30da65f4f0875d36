"""The one way into an archive: a `.mar`, a folder or a thin one; described, checked or unpacked."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

from videopure.format.external_weights import CompleteFiles, locate
from videopure.format.integrity import ArchiveFiles, FolderFiles, verify_contents
from videopure.format.manifest import (
    CHANGES_NAME,
    CONFIG_NAME,
    ENTRY_NAME,
    HANDLER_FILE,
    MANIFEST_NAME,
    SIGNATURE_NAME,
    Manifest,
    ManifestError,
    check_path,
)
from videopure.format.operator import OperatorChanges, record_of
from videopure.format.settings import HandlerSettings, ModelConfig, Weights, read_yaml
from videopure.format.signature import check_signature
from videopure.format.zip_layout import check_layout

__all__ = [
    "Archive",
    "ArchiveSummary",
    "digest_archive",
    "inspect_archive",
    "open_archive",
    "unpacked",
    "verify_archive",
]


class ZipFiles:
    """A packed archive; see `ArchiveFiles`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def names(self) -> Iterator[str]:
        """See `ArchiveFiles.names`."""
        for info in self._archive.infolist():
            if not info.is_dir():
                yield info.filename

    def open(self, name: str) -> BinaryIO:
        """See `ArchiveFiles.open`."""
        return cast(BinaryIO, self._archive.open(name))


@dataclass(frozen=True)
class ArchiveSummary:
    """An archive's description of itself.

    Args:
        manifest: its videopure.json.
        config: its model-config.yaml, checked.
        size: in bytes, packed or the sum of its files.
        chosen: the keys that are set in its model-config.yaml.
        changed: for each changed setting, by dotted key, the built value and the operator's.
    """

    manifest: Manifest
    config: ModelConfig
    size: int
    chosen: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)


class Archive:
    """An archive that is open for reading; nothing is checked before `verify`.

    Args:
        path: the `.mar` or the folder, for messages.
        files: what it holds.
    """

    def __init__(self, path: Path, files: ArchiveFiles) -> None:
        self.path = path
        self.files = files

    @cached_property
    def manifest(self) -> Manifest:
        """Its videopure.json; ManifestError if it is missing or malformed."""
        return Manifest.parse(self.read(MANIFEST_NAME))

    @cached_property
    def config(self) -> ModelConfig:
        """Its model-config.yaml; SettingsError if a key or value cannot be used."""
        return ModelConfig.parse(self.chosen)

    @cached_property
    def chosen(self) -> dict[str, Any]:
        """The keys that are set in its model-config.yaml, unchecked."""
        text = self.read(CONFIG_NAME).decode("utf-8", errors="replace")
        return read_yaml(text, CONFIG_NAME) or {}

    @property
    def settings(self) -> HandlerSettings:
        """The `videopure` section of its model-config.yaml."""
        return self.config.videopure

    def summary(self) -> ArchiveSummary:
        """Its description of itself."""
        manifest = self.manifest  # the first to fail if the path is not a VideoPure archive
        size = self.path.stat().st_size
        if self.path.is_dir():
            size = sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())
        changes = self.changes
        changed = changes.changed if changes else {}
        return ArchiveSummary(manifest, self.config, size, self.chosen, changed)

    @property
    def changes(self) -> OperatorChanges | None:
        """The operator's changes to the settings; None if nothing is recorded."""
        data = self._read_optional(CHANGES_NAME)
        return None if data is None else OperatorChanges.parse(data)

    def signed_digests(self) -> dict[str, str]:
        """SHA-256 of the signed files: the manifest, and those that it does not record."""
        names = (MANIFEST_NAME, CONFIG_NAME, ENTRY_NAME, CHANGES_NAME)
        contents = {name: self._read_optional(name) for name in names}
        return {name: record_of(data).sha256 for name, data in contents.items() if data is not None}

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            ManifestError: if the archive has no such file.
        """
        try:
            with self.files.open(name) as file:
                return file.read()
        except (FileNotFoundError, KeyError):
            raise ManifestError(f"the archive has no {name}") from None

    def _read_optional(self, name: str) -> bytes | None:
        return self.read(name) if name in set(self.files.names()) else None

    def verify(self, public_key: Path | None = None, weights: Weights | None = None) -> None:
        """Check every file, the settings, and the entry that TorchServe starts.

        Args:
            public_key: PEM file of the Ed25519 key that must have signed the archive.
            weights: where those of a thin archive are; None for the places in its settings.

        Raises:
            ManifestError: naming the first wrong file.
            SettingsError: naming each unknown key of model-config.yaml.
        """
        if public_key is not None:
            check_signature(self._read_optional(SIGNATURE_NAME), self.signed_digests(), public_key)
        self._check_config()
        try:
            if isinstance(self.files, ZipFiles):
                check_layout(self.path)
            external = locate(self.manifest, dict(weights or self.settings.weights))
            verify_contents(CompleteFiles(self.files, external), self.manifest)
        except zipfile.BadZipFile as error:  # the zip's own check sums
            raise ManifestError(f"{self.path} is damaged: {error}") from None
        self._check_entry()

    def _check_config(self) -> None:
        """The settings must be those of the build, or those that the operator recorded."""
        changes, built = self.changes, self.manifest.config
        expected = built if changes is None else changes.config
        if record_of(self.read(CONFIG_NAME)) != expected:
            raise ManifestError(
                f"{CONFIG_NAME} has changed since it was recorded: if you changed it, record that "
                "with `videopure configure`"
            )

    def _check_entry(self) -> None:
        """The file that TorchServe reads must be exactly what was built."""
        try:
            told = json.loads(self.read(ENTRY_NAME))
            model = dict(told["model"])
        except (ValueError, KeyError, TypeError):
            raise ManifestError(f"{ENTRY_NAME} is malformed: it names no model.handler") from None
        if model.get("handler") != HANDLER_FILE:
            raise ManifestError(
                f"{ENTRY_NAME} starts the handler {model.get('handler')!r}, expected "
                f"{HANDLER_FILE!r}"
            )
        expected = {
            "modelName": self.manifest.name,
            "handler": HANDLER_FILE,
            "modelVersion": self.manifest.version,
            "configFile": CONFIG_NAME,
        }
        free = ("createdOn", "archiverVersion")
        rest = {key: value for key, value in told.items() if key not in free}
        if rest != {"runtime": "python", "model": expected}:
            raise ManifestError(
                f"{ENTRY_NAME} tells TorchServe something other than was built: {rest}, expected "
                f"{ {'runtime': 'python', 'model': expected} }"
            )


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive, packed or not.

    Raises:
        ManifestError: if there is none, or it is not a zip file.
    """
    if path.is_dir():
        yield Archive(path, FolderFiles(path))
        return
    try:
        with zipfile.ZipFile(path) as packed:
            yield Archive(path, ZipFiles(packed))
    except FileNotFoundError:
        raise ManifestError(f"there is no archive {path}") from None
    except zipfile.BadZipFile as error:
        raise ManifestError(f"{path} is not an archive: {error}") from None


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder of an archive, for loading; a packed one is unpacked and removed afterwards.

    Raises:
        ManifestError: if it is not an archive, or a name in it leaves the folder.
        OSError: if the disk has no room for a copy.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="videopure-archive-") as folder:
        with open_archive(path) as archive:
            for name in archive.files.names():
                check_path(name)
            _extract(archive, Path(folder))
        yield Path(folder)


def _extract(archive: Archive, folder: Path) -> None:
    with zipfile.ZipFile(archive.path) as packed:
        packed.extractall(folder)


def inspect_archive(path: Path) -> ArchiveSummary:
    """An archive's description of itself; nothing is checked.

    Raises:
        ManifestError: if it is not a VideoPure archive.
        SettingsError: if its model-config.yaml cannot be used.
    """
    with open_archive(path) as archive:
        return archive.summary()


def verify_archive(path: Path, public_key: Path | None = None) -> ArchiveSummary:
    """Check every file of an archive and its settings; arguments and errors of `Archive.verify`."""
    with open_archive(path) as archive:
        summary = archive.summary()
        archive.verify(public_key)
    return summary


def digest_archive(path: Path) -> str:
    """SHA-256 of an archive's models and settings, independent of build time and version.

    Only settings that are not left to their defaults count; the code does not. Errors as for
    `inspect_archive`.
    """
    with open_archive(path) as archive:
        chosen = archive.settings.model_dump_json(exclude_defaults=True)
        total = hashlib.sha256(chosen.encode())
        for name, record in sorted(archive.manifest.files.items()):
            if not name.startswith("videopure/"):  # the code
                total.update(f"{name} {record.sha256}\n".encode())
    return total.hexdigest()
