"""The Python client of a running server: httpx and schemas, no torch.

May import wire.
"""

from videopure.client.api import VideoPureClient
from videopure.client.asynchronous import AsyncVideoPureClient
from videopure.client.errors import (
    ClientError,
    ConnectionLostError,
    KeyFileError,
    ModelNotFoundError,
    NotTorchServeError,
    QueueFullError,
    RequestFailedError,
    ServerUnreachableError,
)
from videopure.client.evidence import Evidence
from videopure.client.status import MetricSample, ModelStatus, Worker

__all__ = [
    "AsyncVideoPureClient",
    "ClientError",
    "ConnectionLostError",
    "Evidence",
    "KeyFileError",
    "MetricSample",
    "ModelNotFoundError",
    "ModelStatus",
    "NotTorchServeError",
    "QueueFullError",
    "RequestFailedError",
    "ServerUnreachableError",
    "VideoPureClient",
    "Worker",
]
