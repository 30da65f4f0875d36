"""operator.json: the operator's changes to an archive's settings since it was built."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from videopure.format.manifest import CHANGES_NAME, FileRecord, ManifestError, digest

__all__ = ["OperatorChanges", "record_of", "replace_files"]


class OperatorChanges(BaseModel):
    """The record of changed settings.

    Args:
        config: the current model-config.yaml.
        changed: by dotted key, the built value and the current one; a key that is not set counts as
            its default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: FileRecord
    changed: dict[str, tuple[Any, Any]]

    @classmethod
    def parse(cls, data: bytes) -> OperatorChanges:
        """Read the record.

        Raises:
            ManifestError: if it is malformed.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ManifestError(f"{CHANGES_NAME} is malformed: {key}: {first['msg']}") from None


def record_of(data: bytes) -> FileRecord:
    """Size and SHA-256 of a file's content."""
    return digest(io.BytesIO(data))


def replace_files(path: Path, contents: Mapping[str, bytes | None]) -> None:
    """Replace, add or remove (None) files of an archive, packed or a folder.

    A packed archive is written next to the old one and replaces it when complete.
    """
    if path.is_dir():
        for name, data in contents.items():
            if data is None:
                (path / name).unlink(missing_ok=True)
            else:
                _write_whole(path / name, data)
        return
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(part, "w") as new:
            for info in old.infolist():
                if info.filename not in contents:
                    with old.open(info) as source, new.open(_plain(info), "w") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
            for name, data in contents.items():
                if data is not None:
                    new.writestr(name, data)
        shutil.copymode(path, part)
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)


def _plain(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """An entry with the same name, time and size, and nothing else in its header."""
    plain = zipfile.ZipInfo(info.filename, info.date_time)
    plain.file_size = info.file_size
    plain.external_attr = info.external_attr
    return plain


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
