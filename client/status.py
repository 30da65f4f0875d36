"""TorchServe's status of a model and its workers, and its metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["MetricSample", "ModelStatus", "Worker", "parse_metrics"]

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass(frozen=True)
class Worker:
    """One process that answers requests.

    Args:
        id: TorchServe's number.
        pid: process id; 0 while it is starting.
        ready: whether it can answer; `status` is TorchServe's own term.
        memory_bytes: resident memory, as TorchServe last measured it.
        device: `cpu`, or TorchServe's description of the GPU.
    """

    id: str
    pid: int
    ready: bool
    status: str
    memory_bytes: int
    device: str

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Worker:
        """From an entry of TorchServe's `workers`."""
        status = str(body["status"])
        return cls(
            id=str(body["id"]),
            pid=max(0, int(body.get("pid", 0))),
            ready=status == "READY",
            status=status,
            memory_bytes=int(body.get("memoryUsage", 0)),
            device=str(body.get("gpuUsage", "gpu")) if body.get("gpu") else "cpu",
        )


@dataclass(frozen=True)
class ModelStatus:
    """A served model: its batching, its queue and its workers.

    Args:
        batch_size: the most requests that a worker gets at once.
        max_batch_delay_ms: how long a batch waits to be filled.
        pending: requests that wait for a worker.
        queue_left: more that may wait before they are refused.
    """

    name: str
    version: str
    min_workers: int
    max_workers: int
    batch_size: int
    max_batch_delay_ms: int
    pending: int
    queue_left: int
    workers: tuple[Worker, ...]

    @classmethod
    def parse(cls, body: dict[str, Any]) -> ModelStatus:
        """From TorchServe's description of a model."""
        queue = body.get("jobQueueStatus", {})
        return cls(
            name=str(body["modelName"]),
            version=str(body["modelVersion"]),
            min_workers=int(body["minWorkers"]),
            max_workers=int(body["maxWorkers"]),
            batch_size=int(body["batchSize"]),
            max_batch_delay_ms=int(body["maxBatchDelay"]),
            pending=int(queue.get("pendingRequests", 0)),
            queue_left=int(queue.get("remainingCapacity", 0)),
            workers=tuple(Worker.parse(worker) for worker in body["workers"]),
        )

    @property
    def ready(self) -> bool:
        """Whether all wanted workers are there and can answer."""
        enough = len(self.workers) >= max(1, self.min_workers)
        return enough and all(worker.ready for worker in self.workers)


@dataclass(frozen=True)
class MetricSample:
    """One value of a metric, such as a counter's or a histogram bucket's."""

    name: str
    labels: dict[str, str]
    value: float


def parse_metrics(text: str) -> Iterator[MetricSample]:
    """The samples of a page in Prometheus' text format.

    Raises:
        ValueError: naming the line that is not a sample.
    """
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = _SAMPLE.match(line.strip())
        if match is None:
            raise ValueError(f"not a metric sample: {line[:200]!r}")
        labels = {name: _unescape(value) for name, value in _LABEL.findall(match[2] or "")}
        yield MetricSample(match[1], labels, float(match[3]))


def _unescape(value: str) -> str:
    return re.sub(r'\\[\\"n]', lambda match: _ESCAPES[match[0]], value)
