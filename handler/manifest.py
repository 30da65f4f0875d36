"""`videopure.json`: what an archive holds, with a digest of every file."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = [
    "MANIFEST_NAME",
    "Component",
    "FileRecord",
    "Manifest",
    "ManifestError",
    "digest",
    "digest_files",
]

MANIFEST_NAME = "videopure.json"
_BLOCK = 1 << 20


class ManifestError(ValueError):
    """The archive is not what its manifest says; the message names the file."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Record):
    """Size in bytes and SHA-256 (hex) of one file."""

    size: int
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Component(_Record):
    """A model in the archive.

    Args:
        name: what the answers call it.
        kind: its class.
        licence: None where its folder names none.
        source: where it was taken from: a hub id with its revision, or a folder's name.
        dtype: of its floating-point weights; several are joined by "+".
        parameters: how many.
        classes: class of each of its parts, by folder.
        program: the file that is code and was let in as such; None where all is data.
    """

    name: str
    kind: str
    licence: str | None
    source: str
    dtype: str
    parameters: int
    classes: dict[str, str] = {}
    program: str | None = None


class Manifest(_Record):
    """The manifest; paths in `files` are relative to the archive's root.

    `accepted_licences` are those that restrict use and were accepted at build time.
    """

    format: Literal[2] = 2
    name: str
    version: str
    videopure_version: str
    recogniser: Component
    purifier: Component
    flow: Component | None = None
    accepted_licences: list[str] = []
    libraries: dict[str, str]
    files: dict[str, FileRecord]

    @classmethod
    def read(cls, root: Path) -> Manifest:
        """Read the manifest of an unpacked archive.

        Raises:
            ManifestError: if it is missing or malformed.
        """
        path = root / MANIFEST_NAME
        try:
            return cls.parse(path.read_bytes())
        except FileNotFoundError:
            raise ManifestError(f"the archive has no {MANIFEST_NAME}") from None

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read the manifest of its JSON text.

        Raises:
            ManifestError: if it is malformed, or names a file outside the archive.
        """
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as error:
            raise ManifestError(f"{MANIFEST_NAME} is malformed: {_faults(error)}") from None
        for name in manifest.files:
            check_path(name)
        return manifest

    @property
    def components(self) -> dict[str, Component]:
        """The models, by the folder that holds them."""
        parts = {"recogniser": self.recogniser, "pipeline": self.purifier}
        return parts | ({"flow": self.flow} if self.flow else {})


def check_path(name: str) -> None:
    """Raise ManifestError for the name of a file that leaves the archive."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise ManifestError(f"{name!r} leaves the archive: only paths below its root may be in it")


def digest_files(root: Path) -> dict[str, FileRecord]:
    """Records of all files under a folder, by path relative to it."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    records = {}
    for path in files:
        with path.open("rb") as file:
            records[path.relative_to(root).as_posix()] = digest(file)
    return records


def digest(file: BinaryIO) -> FileRecord:
    """The record of an open file, read in blocks."""
    sha256, size = hashlib.sha256(), 0
    while block := file.read(_BLOCK):
        sha256.update(block)
        size += len(block)
    return FileRecord(size=size, sha256=sha256.hexdigest())


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}"
        for fault in error.errors()
    )
