"""Reads blocks, in separate processes without models."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import pyarrow as pa

from videopure.bulk.sources import read_source

__all__ = ["read_block"]

_AT_ONCE = 8  # files of a block at once: network stores are slow
_BLOCK = pa.schema(
    [
        pa.field("block", pa.string()),
        pa.field("path", pa.list_(pa.string())),
        pa.field("size", pa.list_(pa.int64())),
        pa.field("content", pa.large_list(pa.large_binary())),
        pa.field("fault", pa.list_(pa.string())),
    ]
)
_STATUS: dict[type[Exception], int] = {FileNotFoundError: 404, PermissionError: 403}


class Read(NamedTuple):
    """The bytes of a file, or what is wrong with it."""

    content: bytes | None
    fault: str | None


def read_block(batch: pa.Table, most_bytes: int) -> pa.Table:
    """Read the files of blocks; an unreadable one has its fault instead of its content.

    Args:
        batch: columns `block`, `path` and `size`, one row per block.
        most_bytes: limit of a file; of a larger one only enough is read to show that.
    """
    rows = []
    for row in batch.to_pylist():
        files = _read_all(row["path"], most_bytes)
        content, fault = [file.content for file in files], [file.fault for file in files]
        rows.append({**row, "content": content, "fault": fault})
    return pa.Table.from_pylist(rows, schema=_BLOCK)


def _read_all(paths: Sequence[str], most_bytes: int) -> list[Read]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(partial(_read, most_bytes=most_bytes), paths))


def _read(path: str, most_bytes: int) -> Read:
    try:
        return Read(read_source(path, most_bytes), None)
    except Exception as error:  # from any file system
        status = _STATUS.get(type(error), 502)
        return Read(None, f"{status} {type(error).__name__}: {error}"[:4000])
