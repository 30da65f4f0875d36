"""The folder of a run: options, plan and answers; it survives kills.

- `run.json`: the archive and the options; different ones are refused.
- `plan/000000.parquet`: every video and the block that it belongs to, written before any work. A
later run of the same command adds a file for new videos.
- `answers/000000-000000.parquet`: the answers of one block, complete or absent.
- `copies/`: purified copies.
- `tries/`: blocks that were started, to detect those that kill their workers.

Each video is in exactly one block, and each block in one file with its name. So a block that is
answered again, by a restarted worker or by one that a killed run left behind, replaces the answers
of the same videos: nothing can appear twice. The missing blocks are those in the plan but not in
`answers/`: nothing can be lost.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from videopure.bulk.errors import ScreenError
from videopure.bulk.sources import Source

__all__ = ["Block", "Folder"]

_PLAN = pa.schema(
    [("block", pa.string()), ("path", pa.string()), ("bytes", pa.int64())],
)
# Limit of a block: the most that a kill loses per worker, and that memory holds of each block's
# files.
_MOST_VIDEOS, _LEAST_VIDEOS = 64, 4
_MOST_BYTES = 1 << 26
_BLOCKS = 32  # at least this many per worker, so that all have work until the end
_UNKNOWN_BYTES = 1 << 20  # assumed for a file of unknown size


class Block(NamedTuple):
    """Videos whose answers are written together: the name of the block, and the videos."""

    name: str
    sources: list[Source]


class Folder:
    """The folder of a run, local or behind a URL.

    Args:
        url: URL of the folder; it is created when something is written.
    """

    def __init__(self, url: str) -> None:
        self.fs, path = url_to_fs(url)
        self.root = str(path).rstrip("/")
        self._lock: Any = None

    @property
    def local(self) -> Path | None:
        """The folder, if it is on a file system of this machine."""
        return Path(self.root) if isinstance(self.fs, LocalFileSystem) else None

    def lock(self) -> None:
        """Keep other processes of this machine from writing here while this one lives.

        Raises:
            ScreenError: if one already does.
        """
        if self.local is None or os.name != "posix":
            return
        import fcntl

        self.local.mkdir(parents=True, exist_ok=True)
        self._lock = (self.local / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.unlock()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise ScreenError(f"another process is writing into {self.root}") from error

    def unlock(self) -> None:
        """Let others write here."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def check_question(self, question: dict[str, Any]) -> None:
        """Record archive and options, or check that they are the recorded ones.

        Raises:
            ScreenError: naming what differs.
        """
        file = f"{self.root}/run.json"
        if not self.fs.exists(file):
            self._write(file, json.dumps(question, indent=2).encode())
            return
        before = json.loads(self.fs.cat_file(file))
        changed = sorted(k for k in {*before, *question} if before.get(k) != question.get(k))
        if changed:
            raise ScreenError(
                f"{self.root} holds the answers of a run with another {', '.join(changed)}: give "
                "another --out"
            )

    def begin(self) -> None:
        """Remove what killed runs left: half-written files, and their tries."""
        for pattern in ("answers/.*.tmp", "plan/.*.tmp", "tries/*"):
            for file in self._list(pattern):
                self.fs.rm_file(file)

    def plan(
        self, sources: Iterable[Source], workers: int, most_videos: int | None = None
    ) -> tuple[list[Block], int]:
        """Add videos that are in no block yet to the plan.

        Args:
            sources: the named videos.
            workers: number of workers that share the work.
            most_videos: most videos per block; by default each worker gets several blocks.

        Returns:
            The blocks that are not answered yet, and the number of all videos.
        """
        files = self._list("plan/*.parquet")
        tables = [self._read(file) for file in files]
        known = {path for table in tables for path in table["path"].to_pylist()}
        new = [source for source in sources if source.path not in known]
        name = f"{len(files):06}"
        share = len(new) // (_BLOCKS * workers)
        most = most_videos or max(_LEAST_VIDEOS, min(_MOST_VIDEOS, share))
        added = _tabulate(_pack(new, name, most))
        if added.num_rows:
            self.fs.makedirs(f"{self.root}/plan", exist_ok=True)
            self._write_table(f"plan/{name}.parquet", added)
        finished = self.finished()
        todo = [b for table in (*tables, added) for b in _blocks(table) if b.name not in finished]
        return todo, len(known) + added.num_rows

    def finished(self) -> set[str]:
        """The names of the blocks that are answered."""
        return {Path(file).stem for file in self._list("answers/*.parquet")}

    def write_answers(self, block: str, table: pa.Table) -> None:
        """Write the answers of a block, atomically."""
        self._write_table(f"answers/{block}.parquet", table)
        for file in self._list(f"tries/{block}.*"):
            self.fs.rm_file(file)

    def note_try(self, block: str) -> int:
        """Note the start of a block; returns how often it was started in this run."""
        self._write(f"{self.root}/tries/{block}.{uuid.uuid4().hex}", b"")
        return len(self._list(f"tries/{block}.*"))

    def answers(self, columns: list[str]) -> Iterator[pa.Table]:
        """Some columns of all answers, block by block."""
        for file in self._list("answers/*.parquet"):
            yield self._read(file, columns)

    def write_file(self, name: str, content: bytes) -> None:
        """Write a file atomically."""
        self._write(f"{self.root}/{name}", content)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a file of JSON."""
        self._write(f"{self.root}/{name}", json.dumps(content, indent=2).encode())

    def _list(self, pattern: str) -> list[str]:
        """The files that match now, bypassing the file system's cache."""
        self.fs.invalidate_cache()
        return sorted(self.fs.glob(f"{self.root}/{pattern}"))

    def _read(self, file: str, columns: list[str] | None = None) -> pa.Table:
        with self.fs.open(file, "rb") as opened:
            return pq.read_table(opened, columns=columns)

    def _write_table(self, name: str, table: pa.Table) -> None:
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        self._write(f"{self.root}/{name}", buffer.getvalue().to_pybytes())

    def _write(self, path: str, content: bytes) -> None:
        """Object stores show only complete files; elsewhere the file is moved into place."""
        if self.local is None:
            self.fs.pipe_file(path, content)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)


def _pack(sources: Iterable[Source], plan: str, most_videos: int) -> Iterator[Block]:
    """Blocks of at most this many videos and bytes, and of at least one video."""
    packed: list[Source] = []
    size = number = 0
    for source in sources:
        its = _UNKNOWN_BYTES if source.size is None else source.size
        if packed and (len(packed) >= most_videos or size + its > _MOST_BYTES):
            yield Block(f"{plan}-{number:06}", packed)
            packed, size, number = [], 0, number + 1
        packed.append(source)
        size += its
    if packed:
        yield Block(f"{plan}-{number:06}", packed)


def _tabulate(blocks: Iterable[Block]) -> pa.Table:
    rows = [(b.name, source.path, source.size) for b in blocks for source in b.sources]
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table([list(column) for column in columns], schema=_PLAN)


def _blocks(table: pa.Table) -> Iterator[Block]:
    """The blocks of a plan, whose rows are adjacent."""
    name: str | None = None
    sources: list[Source] = []
    for block, path, size in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if block != name and sources:
            yield Block(str(name), sources)
            sources = []
        name = block
        sources.append(Source(path, size))
    if sources:
        yield Block(str(name), sources)
