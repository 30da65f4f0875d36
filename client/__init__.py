"""The Python client of a running server: requests and schemas, no torch.

May import wire.
"""

from videopure.client.api import Evidence, VideoPureClient
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
from videopure.client.status import MetricSample, ModelStatus, Worker

__all__ = [
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
