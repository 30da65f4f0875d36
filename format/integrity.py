"""Checks what an archive holds against its manifest, at every start of a worker.

Each kind of damage has its own error. The quick checks come first, so that a missing file or one of
the wrong kind is reported as such; the digests of all files come last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from videopure.format.manifest import (
    CHANGES_NAME,
    CONFIG_NAME,
    ENTRY_NAME,
    MANIFEST_NAME,
    SIGNATURE_NAME,
    Component,
    FileRecord,
    Manifest,
    ManifestError,
    check_path,
    digest,
)

__all__ = [
    "ArchiveFiles",
    "FolderFiles",
    "is_pickle",
    "read_classes",
    "verify_contents",
    "verify_records",
    "weight_dtypes",
    "weight_shapes",
]

# The only files that an archive may hold without a record in its manifest. Each is checked
# separately: see `opening.Archive.verify`.
NOT_RECORDED = (MANIFEST_NAME, CONFIG_NAME, ENTRY_NAME, CHANGES_NAME, SIGNATURE_NAME)
_PICKLE_ENDINGS = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pt2", ".pth")
_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_CONFIGS = ("config.json", "scheduler_config.json")
_HEADER_LIMIT = 100_000_000  # of safetensors, by its specification
_DTYPES = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


class ArchiveFiles(Protocol):
    """The files of an archive, packed or not; names are relative to its root."""

    def names(self) -> Iterable[str]:
        """All files; no link is followed out of the archive."""

    def open(self, name: str) -> BinaryIO:
        """A file opened for reading; OSError or KeyError if there is none."""


class FolderFiles:
    """An unpacked archive."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> Iterator[str]:
        """See `ArchiveFiles.names`."""
        base = self.root.resolve()
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if not path.resolve().is_relative_to(base):
                raise ManifestError(
                    f"{name!r} leaves the archive: it is a link to {path.resolve()}; put the file "
                    "itself there"
                )
            if path.is_file():
                yield name

    def open(self, name: str) -> BinaryIO:
        """See `ArchiveFiles.open`."""
        return (self.root / name).open("rb")


def verify_contents(files: ArchiveFiles, manifest: Manifest) -> None:
    """Check every file of an archive.

    Raises:
        ManifestError: naming the first file that leaves the archive, is missing, was added, is a
            pickle, is of another class or dtype, or has changed.
    """
    present = set()
    for name in files.names():
        check_path(name)
        present.add(name)
    for name in manifest.files:
        if name not in present:
            raise ManifestError(f"{name} is missing from the archive")
    for name in sorted(present):
        if _is_foreign(name, manifest):
            raise ManifestError(
                f"{name} is in the archive but not in its {MANIFEST_NAME}: it was added after the "
                "archive was built"
            )
    _check_kinds(files, manifest)
    verify_records(files, manifest.files)


def verify_records(files: ArchiveFiles, records: Mapping[str, FileRecord]) -> None:
    """Check size and SHA-256 of files.

    Raises:
        ManifestError: naming the first file that has changed.
    """
    for name, record in records.items():
        with files.open(name) as file:
            _check_record(name, record, digest(file))


def _check_record(name: str, record: FileRecord, found: FileRecord) -> None:
    if found != record:
        raise ManifestError(
            f"{name} has changed since the archive was built: SHA-256 {found.sha256} "
            f"({found.size} bytes), expected {record.sha256} ({record.size} bytes)"
        )


def _is_foreign(name: str, manifest: Manifest) -> bool:
    return name not in manifest.files and name not in NOT_RECORDED


def _check_kinds(files: ArchiveFiles, manifest: Manifest) -> None:
    """Refuse pickles, and models that are not of the class and dtype in the manifest."""
    programs = {f"{folder}/{c.program}" for folder, c in manifest.components.items() if c.program}
    for name in manifest.files:
        if name not in programs and is_pickle(files, name):
            raise ManifestError(
                f"{name} is a pickle, which can run any code when it is loaded: an archive holds "
                "weights as safetensors only"
            )
    for folder, component in manifest.components.items():
        _check_component(files, manifest, folder, component)


def _check_component(
    files: ArchiveFiles, manifest: Manifest, folder: str, component: Component
) -> None:
    names = [name for name in manifest.files if name.startswith(f"{folder}/")]
    classes = read_classes(files, folder, names)
    for part, expected in component.classes.items():
        if classes.get(part) != expected:
            raise ManifestError(
                f"{folder}/{part} is of the wrong class: {classes.get(part)}, expected {expected}"
            )
    for name in names:
        for dtype in weight_dtypes(files, name):
            if dtype not in component.dtype.split("+"):
                raise ManifestError(
                    f"{name} holds weights of the wrong dtype: {dtype}, expected {component.dtype}"
                )


def is_pickle(files: ArchiveFiles, name: str) -> bool:
    """Whether a file is a pickle by its name or first bytes, including PyTorch's zip of one."""
    if PurePosixPath(name).suffix.lower() in _PICKLE_ENDINGS:
        return True
    with files.open(name) as file:
        start = file.read(9)
    # A safetensors file starts with the length of its header, which may look like a pickle.
    if name.endswith(".safetensors") and start[8:] == b"{":
        return False
    # PROTO, the first opcode of every pickle of protocol 2 and later; and the zip of torch.save.
    return start[:2] in _PROTOCOLS or start[:4] == b"PK\x03\x04"


def read_classes(files: ArchiveFiles, folder: str, names: Iterable[str]) -> dict[str, str]:
    """The class that each configuration in a folder names, by path relative to the folder."""
    classes = {}
    for name in names:
        path = PurePosixPath(name)
        if path.name in _CONFIGS:
            found = _class_name(read_json(files, name))
            if found is not None:
                classes[path.relative_to(folder).as_posix()] = found
    return classes


def _class_name(config: Any) -> str | None:
    """The class in a configuration of diffusers, transformers or our own recognisers."""
    if not isinstance(config, dict):
        return None
    architectures = config.get("architectures") or [None]
    found = config.get("_class_name") or config.get("kind") or architectures[0]
    return None if found is None else str(found)


def read_json(files: ArchiveFiles, name: str) -> Any:
    """A JSON file.

    Raises:
        ManifestError: if it is not one.
    """
    with files.open(name) as file:
        try:
            return json.loads(file.read())
        except ValueError as error:
            raise ManifestError(f"{name} is not JSON: {error}") from None


def weight_dtypes(files: ArchiveFiles, name: str) -> set[str]:
    """The dtypes of a safetensors file's floating-point tensors; none for any other file.

    Raises:
        ManifestError: if its header cannot be read.
    """
    return {_DTYPES[dtype] for dtype, _ in weight_shapes(files, name) if dtype in _DTYPES}


def weight_shapes(files: ArchiveFiles, name: str) -> list[tuple[str, list[int]]]:
    """Dtype and shape of each tensor of a safetensors file; none for any other file.

    Raises:
        ManifestError: if its header cannot be read.
    """
    if not name.endswith(".safetensors"):
        return []
    with files.open(name) as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            if length > _HEADER_LIMIT:
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(file.read(length))
            tensors = [entry for key, entry in header.items() if key != "__metadata__"]
            return [(tensor["dtype"], tensor["shape"]) for tensor in tensors]
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ManifestError(f"{name} is not a safetensors file: {error}") from None
