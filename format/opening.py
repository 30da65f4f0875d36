"""Reads and checks archives, packed or as folders, without loading or running what is in them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from videopure.format.external_weights import CompleteFiles, locate
from videopure.format.integrity import ArchiveFiles, FolderFiles, verify_contents
from videopure.format.manifest import HANDLER_FILE, MANIFEST_NAME, Manifest, ManifestError
from videopure.format.settings import ModelConfig, read_yaml

__all__ = ["ArchiveSummary", "inspect_archive", "verify_archive"]


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
    """What an archive says of itself.

    Args:
        manifest: its videopure.json.
        config: its model-config.yaml, checked.
        size: in bytes, packed or the sum of its files.
    """

    manifest: Manifest
    config: ModelConfig
    size: int

    @property
    def chosen(self) -> dict[str, Any]:
        """The keys that are set in its model-config.yaml."""
        return self.config.model_dump(mode="json", exclude_unset=True)


def inspect_archive(path: Path) -> ArchiveSummary:
    """What an archive says of itself; nothing is checked.

    Raises:
        ManifestError: if it is no archive of this kind.
        SettingsError: if its model-config.yaml cannot be used.
    """
    with _opened(path) as files:
        return _summary(path, files)


def verify_archive(path: Path) -> ArchiveSummary:
    """Check every file of an archive and its settings.

    Raises:
        ManifestError: naming the first file that is not what it should be.
        SettingsError: naming each key of model-config.yaml that is not known.
    """
    with _opened(path) as files:
        summary = _summary(path, files)
        try:
            folders = dict(summary.config.videopure.weights)
            elsewhere = locate(summary.manifest, folders)
            verify_contents(CompleteFiles(files, elsewhere), summary.manifest)
        except zipfile.BadZipFile as error:  # the zip's own check sums
            raise ManifestError(f"{path} is damaged: {error}") from None
        _check_entry(files)
    return summary


@contextmanager
def _opened(path: Path) -> Iterator[ArchiveFiles]:
    if path.is_dir():
        yield FolderFiles(path)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            yield ZipFiles(archive)
    except FileNotFoundError:
        raise ManifestError(f"there is no archive {path}") from None
    except zipfile.BadZipFile as error:
        raise ManifestError(f"{path} is no archive: {error}") from None


def _summary(path: Path, files: ArchiveFiles) -> ArchiveSummary:
    manifest = Manifest.parse(_read(files, MANIFEST_NAME))
    text = _read(files, "model-config.yaml").decode("utf-8", errors="replace")
    config = ModelConfig.parse(read_yaml(text, "model-config.yaml"))
    size = path.stat().st_size
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return ArchiveSummary(manifest, config, size)


def _check_entry(files: ArchiveFiles) -> None:
    """TorchServe must start the entry file that was recorded, and no other."""
    name = "MAR-INF/MANIFEST.json"
    try:
        handler = json.loads(_read(files, name))["model"]["handler"]
    except (ValueError, KeyError, TypeError):
        raise ManifestError(f"{name} is malformed: it names no model.handler") from None
    if handler != HANDLER_FILE:
        raise ManifestError(f"{name} starts the handler {handler!r}, expected {HANDLER_FILE!r}")


def _read(files: ArchiveFiles, name: str) -> bytes:
    try:
        with files.open(name) as file:
            return file.read()
    except (FileNotFoundError, KeyError):
        raise ManifestError(f"the archive has no {name}") from None
