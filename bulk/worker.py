"""A worker with a copy of the models, in a Ray process."""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import torch

from videopure.bulk.columns import as_table
from videopure.bulk.folder import Folder
from videopure.bulk.rewrite import RewriteError, rewrite_video
from videopure.format.opening import open_archive, unpacked
from videopure.format.settings import ModelConfig
from videopure.handler.decoder import Decoder
from videopure.handler.policy import OperatorKey
from videopure.handler.service import VideoPureService
from videopure.handler.torchserve import load_service
from videopure.wire.operator import OPERATOR_HEADER
from videopure.wire.schemas import ErrorAnswer

__all__ = ["TRIES", "Copies", "Screener", "Task", "load"]

Copies = Literal["none", "adversarial", "all"]

# A worker that dies on a block is restarted; after this many deaths the block is to blame.
TRIES = 3


@dataclass(frozen=True)
class Task:
    """The configuration of every worker.

    Args:
        archive: archive of the models, at this path on every machine.
        out: folder of the answers, at this path or URL on every machine.
        options: options of each video, as in requests.
        copies: videos to write purified copies of.
        threads: CPU threads of a worker; None: as the archive says.
    """

    archive: str
    out: str
    options: dict[str, Any] = field(default_factory=dict)
    copies: Copies = "none"
    threads: int | None = None


def load(archive: Path, device: torch.device) -> tuple[VideoPureService, str, int]:
    """The service of a server's worker, with a key that makes each request the operator's.

    Whoever has the archive is its operator. The server's memory of clients' clips is left out:
    near-duplicates would depend on which worker got which video.

    Returns:
        The service, the key, and the number of requests answered together.
    """
    with open_archive(archive) as opened:
        config: ModelConfig = opened.config
    settings = config.videopure
    forgetful = settings.similarity.model_copy(update={"clips": 0})
    settings = settings.model_copy(update={"similarity": forgetful})
    with unpacked(archive) as root:
        service = load_service(root, settings, device)
    key = secrets.token_hex(32)
    service.intake.operator_key = OperatorKey(key)
    return service, key, config.batchSize


class Screener:
    """A copy of the models; Ray Data keeps as many as there are workers."""

    def __init__(self, task: Task) -> None:
        _end_with_parent()
        self.task = task
        self.folder = Folder(task.out)
        # As in a server's worker: in a separate process, killed at the deadline.
        self.decoder = Decoder() if hasattr(os, "fork") else None
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if task.threads is not None:
            torch.set_num_threads(task.threads)
        self.service, self.key, self.together = load(Path(task.archive), device)
        if self.service.settings.threads is not None:
            torch.set_num_threads(self.service.settings.threads)
        if self.decoder is not None:
            self.service.intake.read = self.decoder.read
        self.service.warm_up()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Answer blocks and write their answers; returns one row of results per block."""
        return pa.Table.from_pylist([self._block(row) for row in batch.to_pylist()])

    def _block(self, block: dict[str, Any]) -> dict[str, Any]:
        start = time.time()
        if self.folder.note_try(block["block"]) > TRIES:
            rows = [self._gave_up(path) for path in block["path"]]
        else:
            rows = self._answered(block)
        self.folder.write_answers(block["block"], as_table(rows))
        counts = Counter(kind for row in rows for kind in _kinds(row))
        return {
            "videos": len(rows),
            "adversarial": counts["adversarial"],
            "errors": counts["error"],
            "worker": f"{os.uname().nodename}:{os.getpid()}",
            "began": start,
            "ended": time.time(),
        }

    def _answered(self, block: dict[str, Any]) -> list[dict[str, Any]]:
        """One row per video, in batches as large as the server's."""
        rows: list[dict[str, Any]] = []
        columns = (block[name] for name in ("path", "size", "content", "fault"))
        videos = list(zip(*columns, strict=True))
        for start in range(0, len(videos), self.together):
            part = videos[start : start + self.together]
            readable = [content for _, _, content, _ in part if content is not None]
            replies = iter(self._replies(readable, f"{block['block']}-{start}"))
            for path, size, content, fault in part:
                row = {"path": path, "bytes": size if content is None else _size(content, size)}
                if content is None:
                    rows.append({**row, "error": _unreadable(fault)})
                    continue
                body = next(replies)
                rows.append({**row, **self._row(body, path, content)})
        return rows

    def _replies(self, videos: list[bytes], name: str) -> list[dict[str, Any]]:
        # In a form field, where only a video is expected: a file that holds JSON with options must
        # not be read as a request, which would be the operator's.
        requests = [{**self.task.options, "video": video} for video in videos]
        ids = [f"{name}-{number}" for number in range(len(videos))]
        headers = [{OPERATOR_HEADER.lower(): self.key}] * len(videos)
        batch = self.service.answer(requests, ids, headers=headers)
        return [reply.body for reply in batch.replies]

    def _row(self, body: dict[str, Any], path: str, content: bytes) -> dict[str, Any]:
        if "code" in body:
            return {"error": body}
        alarm = (body["suspicion"] or {}).get("adversarial")
        wanted = self.task.copies == "all" or (self.task.copies == "adversarial" and alarm)
        if not wanted:
            return {"answer": body}
        return {"answer": body, "copy": self._copy(path, content)}

    def _copy(self, path: str, content: bytes) -> str | None:
        """Write a purified copy; its name within the folder, or None where that is impossible."""
        stem = PurePosixPath(path).stem[:80]
        name = f"copies/{stem}-{sha256(path.encode()).hexdigest()[:12]}.mp4"
        defended = self.service.defended
        with tempfile.TemporaryDirectory(prefix="videopure-screen-") as folder:
            source, target = Path(folder) / "video", Path(folder) / "copy.mp4"
            source.write_bytes(content)
            try:
                rewrite_video(
                    *(source, target, defended.purify, defended.recogniser.num_frames),
                    *(defended.pipeline.frame_multiple, lambda done, total: None),
                )
            except RewriteError:
                return None
            self.folder.write_file(name, target.read_bytes())
        return name

    def _gave_up(self, path: str) -> dict[str, Any]:
        message = (
            f"a worker died {TRIES} times while it answered this video or one in its block; screen "
            "it alone to see which"
        )
        error = ErrorAnswer(code=500, type="WorkerDiedError", message=message, request_id="")
        return {"path": path, "error": error.model_dump()}


def _end_with_parent() -> None:
    """End soon after Ray's own process here: nothing else ends a worker that computes.

    A run that resumes after a kill would find the GPU's memory taken.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="videopure-parent").start()


def _size(content: bytes, listed: int | None) -> int:
    """A file larger than allowed was not read to its end."""
    return max(len(content), listed or 0)


def _unreadable(fault: str) -> dict[str, Any]:
    code, _, message = fault.partition(" ")
    error = ErrorAnswer(code=int(code), type="UnreadableError", message=message, request_id="")
    return error.model_dump()


def _kinds(row: dict[str, Any]) -> list[str]:
    if "error" in row:
        return ["error"]
    suspicion = row["answer"]["suspicion"]
    return ["adversarial"] if suspicion and suspicion["adversarial"] else []
