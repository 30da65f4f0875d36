"""Checks that a packed archive reads the same from its front and from its end.

Python reads a zip by the directory at its end; TorchServe streams the local headers from its front.
A file that only one of them sees could be served without having been checked.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from videopure.format.manifest import ManifestError

__all__ = ["check_layout"]

_LOCAL = struct.Struct("<4s5H3L2H")  # of a local header, before the name
_SIGNATURE = b"PK\x03\x04"
_SIZES_FOLLOW = 0x08  # flag: sizes follow the data, whose end a stream finds by content
_ENCRYPTED = 0x01
_UTF8 = 0x800
_BEYOND = 0xFFFFFFFF  # stands for a size that the extra field holds
_ZIP64 = 1


def check_layout(path: Path) -> None:
    """Check that a zip's local headers name exactly the files of its directory, without gaps.

    Raises:
        ManifestError: naming the first entry on which the two disagree.
        zipfile.BadZipFile: if it is not a zip file.
    """
    with zipfile.ZipFile(path) as packed, path.open("rb") as file:
        entries = sorted(packed.infolist(), key=lambda info: info.header_offset)
        names = [info.filename for info in entries]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ManifestError(f"{path} is not an intact archive: it contains {twice!r} twice")
        end = 0
        for info in entries:
            if info.header_offset != end:
                raise ManifestError(
                    f"{path} is not an intact archive: {info.header_offset - end} bytes before "
                    f"{info.filename!r} belong to no file of its directory"
                )
            end = _check_entry(path, file, info)
        if packed.start_dir != end:
            raise ManifestError(
                f"{path} is not an intact archive: {packed.start_dir - end} bytes behind its last "
                "file belong to no file of its directory"
            )


def _check_entry(path: Path, file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Compare one entry's local header with the directory; return the offset after its data."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != _SIGNATURE:
        raise ManifestError(
            f"{path} is not an intact archive: {info.filename!r} has no local header"
        )
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
    name = file.read(name_length).decode("utf-8" if flags & _UTF8 else "cp437", errors="replace")
    size, packed = _long_sizes(file.read(extra_length), size, packed)
    told = (name, flags, method, crc, packed, size)
    listed = (
        *(info.filename, info.flag_bits, info.compress_type, info.CRC),
        *(info.compress_size, info.file_size),
    )
    if flags & (_SIZES_FOLLOW | _ENCRYPTED) or told != listed:
        raise ManifestError(
            f"{path} is not an intact archive: the local header of {info.filename!r} says {told}, "
            f"the directory {listed}"
        )
    return info.header_offset + _LOCAL.size + name_length + extra_length + packed


def _long_sizes(extra: bytes, size: int, packed: int) -> tuple[int, int]:
    """The sizes of files beyond 4 GiB, which the extra field of a zip64 header holds."""
    if _BEYOND not in (size, packed):
        return size, packed
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _ZIP64 and length >= 16:
            size, packed = struct.unpack_from("<2Q", extra, 4)
            break
        extra = extra[4 + length :]
    return size, packed
