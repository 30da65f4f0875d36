"""The videos that a command names: folders, globs, lists and URLs of everything fsspec knows."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import fsspec
from fsspec.core import url_to_fs

from videopure.bulk.errors import ScreenError

__all__ = ["Source", "find_sources", "read_source"]

_GLOB = frozenset("*?[")
_NO_RETRY = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_ATTEMPTS = 3


class Source(NamedTuple):
    """A video: its path or URL, and its size in bytes if known without reading it."""

    path: str
    size: int | None = None


def find_sources(named: Sequence[str]) -> Iterator[Source]:
    """The named files, each once, in the order of their names or lines.

    Args:
        named: a folder with everything below it except hidden files; a glob; a list, which is a
            `.txt` with one path per line or a `.csv` with a column `path`, relative to the list; or
            a file. Each may be a URL, such as s3://bucket/folder.

    Raises:
        ScreenError: naming what does not exist or cannot be listed.
    """
    seen: set[str] = set()
    for name in named:
        found = False
        for source in _find(name):
            found = True
            if source.path not in seen:
                seen.add(source.path)
                yield source
        if not found:
            raise ScreenError(f"{name} names no files")


def read_source(path: str, most: int) -> bytes:
    """The bytes of a file, but at most one more than `most`: a larger file is refused anyway.

    Raises:
        Exception: whatever the file system raises, after retries where they may help.
    """
    for attempt in range(_ATTEMPTS):
        try:
            fs, name = url_to_fs(path)
            with fs.open(name, "rb", **_streamed(path)) as file:
                return _read(file, most + 1)
        except _NO_RETRY:
            raise
        except Exception:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _streamed(path: str) -> dict[str, int]:
    """Read over HTTP in one request; fsspec would ask for the size and report any fault as "not
    found".
    """
    return {"block_size": 0, "size": 1} if path.startswith(("http://", "https://")) else {}


def _read(file: Any, most: int) -> bytes:
    """At most this many bytes; a stream may return fewer at a time."""
    parts: list[bytes] = []
    left = most
    while left > 0 and (part := file.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _find(name: str) -> Iterator[Source]:
    suffix = os.path.splitext(name)[1].lower()
    try:
        if suffix in (".txt", ".csv"):
            yield from _of_list(name, suffix)
            return
        fs, path = url_to_fs(name)
        if _streamed(name):
            yield Source(name)  # there are no folders, and each size would take a request
        elif _GLOB & set(name):
            yield from _of_glob(fs, path)
        elif fs.isdir(path):
            yield from _of_folder(fs, path)
        else:
            yield Source(_full(fs, path), fs.info(path).get("size"))
    except FileNotFoundError as error:
        raise ScreenError(f"there is no {name}") from error
    except ScreenError:
        raise
    except (
        Exception
    ) as error:  # from any file system: botocore's for missing keys is not an OSError
        raise ScreenError(f"{name} cannot be listed: {error}") from error


def _of_glob(fs: Any, pattern: str) -> Iterator[Source]:
    hidden = os.path.basename(pattern).startswith(".")
    for path, info in sorted(fs.glob(pattern, detail=True).items()):
        if info.get("type") == "file" and (hidden or not os.path.basename(path).startswith(".")):
            yield Source(_full(fs, path), info.get("size"))


def _of_folder(fs: Any, folder: str) -> Iterator[Source]:
    """Folder by folder: one listing of everything would hold a million entries in memory."""
    for root, folders, files in fs.walk(folder, detail=True):
        for name in [name for name in folders if name.startswith(".")]:
            del folders[name]  # not walked
        for name, info in sorted(files.items()):
            if name and not name.startswith("."):
                yield Source(_full(fs, info.get("name") or f"{root}/{name}"), info.get("size"))


def _of_list(name: str, suffix: str) -> Iterator[Source]:
    with fsspec.open(name, "rt", encoding="utf-8-sig", newline="") as file:
        lines: Iterable[str] = (line.strip() for line in file)
        if suffix == ".csv":
            rows = csv.DictReader(file)
            if "path" not in (rows.fieldnames or ()):
                raise ScreenError(f"{name} needs a first line that names the column path")
            lines = (row["path"] or "" for row in rows)
        folder = os.path.dirname(name)
        for line in lines:
            if line and ("://" in line or os.path.isabs(line)):
                yield Source(line)
            elif line:
                yield Source(f"{folder}/{line}" if "://" in name else _absolute(folder, line))


def _absolute(folder: str, name: str) -> str:
    return os.path.abspath(os.path.join(folder, name))


def _full(fs: Any, path: str) -> str:
    """The path in a form that opens from anywhere: with its protocol, except for local files."""
    return path if "file" in _protocols(fs) else str(fs.unstrip_protocol(path))


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
