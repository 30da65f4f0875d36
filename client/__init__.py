"""What applications import and people type: the client and the `videopure` command line."""

from videopure.client.api import (
    ClientError,
    RequestFailedError,
    ServerUnreachableError,
    VideoPureClient,
)

__all__ = ["ClientError", "RequestFailedError", "ServerUnreachableError", "VideoPureClient"]
