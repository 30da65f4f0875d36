"""What applications import and people type: the client and the `videopure` command line."""

from videopure.client.api import (
    ClientError,
    KeyFileError,
    RequestFailedError,
    ServerUnreachableError,
    VideoPureClient,
)

__all__ = [
    "ClientError",
    "KeyFileError",
    "RequestFailedError",
    "ServerUnreachableError",
    "VideoPureClient",
]
