"""What applications import and people type: the client and the `videopure` command line."""

from videopure.client.api import Evidence, VideoPureClient
from videopure.client.errors import (
    ClientError,
    ConnectionLostError,
    KeyFileError,
    NotTorchServeError,
    QueueFullError,
    RequestFailedError,
    ServerUnreachableError,
)
from videopure.client.status import MetricSample, ModelStatus, Worker

__all__ = [
    "ClientError",
    "ConnectionLostError",
    "Evidence",
    "KeyFileError",
    "MetricSample",
    "ModelStatus",
    "NotTorchServeError",
    "QueueFullError",
    "RequestFailedError",
    "ServerUnreachableError",
    "VideoPureClient",
    "Worker",
]
