"""`videopure.json`: what an archive holds, with a digest of every file."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = [
    "CHANGES_NAME",
    "CONFIG_NAME",
    "ENTRY_NAME",
    "HANDLER_FILE",
    "MANIFEST_NAME",
    "SIGNATURE_NAME",
    "Component",
    "ExternalWeights",
    "FileRecord",
    "Fit",
    "Hardening",
    "Manifest",
    "ManifestError",
    "digest",
    "digest_files",
]

MANIFEST_NAME = "videopure.json"
# The entry file that TorchServe loads.
HANDLER_FILE = "videopure_handler.py"
# The settings, and the files that TorchServe itself reads from an archive.
CONFIG_NAME = "model-config.yaml"
ENTRY_NAME = "MAR-INF/MANIFEST.json"
# The operator's changes to the settings, and the signature of the archive.
CHANGES_NAME = "operator.json"
SIGNATURE_NAME = "signature.json"
_BLOCK = 1 << 20
_FORMER = re.compile(rb'"format":\s*[12]\b')


class ManifestError(ValueError):
    """The archive does not match its manifest; the message names the file."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Record):
    """Size in bytes and SHA-256 (hex) of one file."""

    size: int
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Component(_Record):
    """A model in the archive.

    Args:
        name: its name in the answers.
        kind: its class.
        licence: None if its folder names none.
        source: where it came from: a hub id with its revision, or a folder's name.
        dtype: dtype of its floating-point weights; several are joined by "+".
        parameters: number of parameters.
        classes: class of each of its parts, by folder.
        parts: added parts, such as a motion adapter: origin and licence.
        program: the file that is code and was accepted as such; None if all is data.
    """

    name: str
    kind: str
    licence: str | None
    source: str
    dtype: str
    parameters: int
    classes: dict[str, str] = {}
    parts: dict[str, str] = {}
    program: str | None = None


class ExternalWeights(_Record):
    """Weights of a thin archive, which stay where they were found.

    Args:
        folder: their folder, as an absolute path; None on the hub.
        repo, commit: of the hub; only its local cache is searched, nothing is fetched.
        files: path in the folder or repository, by name in the archive.
    """

    folder: str | None = None
    repo: str | None = None
    commit: str | None = None
    files: dict[str, str]


class Fit(_Record):
    """Time and memory of one clip when the archive was built.

    Args:
        device, dtype: device and dtype of the computation.
        load_s: seconds of checking and loading everything.
        clip_ms: milliseconds of the second clip, purified and voted on.
        model_bytes: memory of all weights.
        clip_bytes: peak memory of the clip besides that; None if unknown.
    """

    device: str
    dtype: str
    load_s: float
    clip_ms: float
    model_bytes: int
    clip_bytes: int | None


class Hardening(_Record):
    """One training of an archive to withstand attackers who have it.

    Args:
        train: what was trained: purifier, recogniser or both.
        method: the purification that the inner attacks went through; `none` if the bare recogniser
            was attacked.
        source: digest of the archive that it was made from, see `opening.digest_archive`.
        clips: the training clips.
        labelled: whether the clips had classes; otherwise the targets were the recogniser's own
            answers to the clean clips.
        recipe: values by the names of `HardenRecipe`.
        seconds: training time.
        processes: number of training processes.
        device: device of the training.
        step: step of the weights that were kept.
        attacked, clean: shares of the validation clips that these keep.
    """

    train: Literal["purifier", "recogniser", "both"]
    method: str
    source: str
    clips: str
    labelled: bool
    recipe: dict[str, float | int | str]
    seconds: float
    processes: int
    device: str
    step: int
    attacked: float
    clean: float


class Manifest(_Record):
    """The manifest; paths in `files` are relative to the archive's root.

    `accepted_licences` are those that restrict use and were accepted at build time;
    `external_weights` are the files that a thin archive does not hold, by their source; `fit` is
    None if no clip was tried; `config` is model-config.yaml as built, `settings` the keys that are
    set in it, by dotted name; `hardening` lists the times it was hardened.
    """

    format: Literal[3] = 3
    name: str
    version: str
    videopure_version: str
    recogniser: Component
    purifier: Component
    flow: Component | None = None
    accepted_licences: list[str] = []
    libraries: dict[str, str]
    files: dict[str, FileRecord]
    external_weights: dict[str, ExternalWeights] = {}
    fit: Fit | None = None
    config: FileRecord
    settings: dict[str, Any]
    hardening: list[Hardening] = []

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
        """Read the manifest from its JSON text.

        Raises:
            ManifestError: if it is malformed, or names a file outside the archive.
        """
        if _FORMER.search(data):
            raise ManifestError(
                "the archive was built by version 1.0, which did not record its settings: build "
                "it again"
            )
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as error:
            raise ManifestError(f"{MANIFEST_NAME} is malformed: {_faults(error)}") from None
        for name in manifest.files:
            check_path(name)
        for source in manifest.external_weights.values():
            for name, path in source.files.items():
                if name not in manifest.files:
                    raise ManifestError(f"{name} is external, but its digest is not recorded")
                check_path(path)
        return manifest

    @property
    def components(self) -> dict[str, Component]:
        """The models, by the folder that holds them."""
        parts = {"recogniser": self.recogniser, "pipeline": self.purifier}
        return parts | ({"flow": self.flow} if self.flow else {})


def check_path(name: str) -> None:
    """Raise ManifestError for a file name that leaves the archive."""
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
