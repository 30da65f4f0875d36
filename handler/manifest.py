"""`videopure.json`: what an archive holds, with a digest of every file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["MANIFEST_NAME", "Component", "FileRecord", "Manifest", "ManifestError", "digest_files"]

MANIFEST_NAME = "videopure.json"


class ManifestError(ValueError):
    """The archive is not what its manifest says; the message names the file."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Record):
    """Size in bytes and SHA-256 (hex) of one file."""

    size: int
    sha256: str


class Component(_Record):
    """A model in the archive; `licence` is None where its folder names none."""

    name: str
    kind: str
    licence: str | None


class Manifest(_Record):
    """The manifest; paths in `files` are relative to the archive's root."""

    format: int = 1
    name: str
    version: str
    videopure_version: str
    recogniser: Component
    purifier: Component
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
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise ManifestError(f"the archive has no {MANIFEST_NAME}") from None
        except ValidationError as error:
            raise ManifestError(f"{MANIFEST_NAME} is malformed: {error}") from None

    def verify(self, root: Path) -> None:
        """Check every recorded file.

        Raises:
            ManifestError: naming the first file that is missing or changed.
        """
        for name, record in self.files.items():
            path = root / name
            if not path.is_file():
                raise ManifestError(f"{name} is missing from the archive")
            found = _digest(path)
            if found != record:
                raise ManifestError(
                    f"{name} has changed since the archive was built: SHA-256 {found.sha256} "
                    f"({found.size} bytes), expected {record.sha256} ({record.size} bytes)"
                )


def digest_files(root: Path) -> dict[str, FileRecord]:
    """Records of all files under a folder, by path relative to it."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> FileRecord:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else None
        if digest is None:  # Python 3.10
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    return FileRecord(size=path.stat().st_size, sha256=digest.hexdigest())
