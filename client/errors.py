"""The exceptions of the client, in one tree."""

from __future__ import annotations

__all__ = [
    "ClientError",
    "ConnectionLostError",
    "KeyFileError",
    "ModelNotFoundError",
    "NotTorchServeError",
    "QueueFullError",
    "RequestFailedError",
    "ServerUnreachableError",
]


class ClientError(Exception):
    """Anything that the client raises."""


class ServerUnreachableError(ClientError):
    """No server answered at the address."""


class ConnectionLostError(ServerUnreachableError):
    """A request was sent, but no answer came: it may have been computed."""


class KeyFileError(ClientError):
    """The server's key file cannot be read, or is missing and the server asks for a key."""


class NotTorchServeError(ClientError):
    """Something answered, but not as TorchServe or this model does."""


class RequestFailedError(ClientError):
    """The server answered with an error.

    Args:
        status: HTTP status.
        type: the server's name for the error.
        message: what is wrong.
        request_id: the server's id of the request, which is also in its log; None if it did not
            reach a worker.
    """

    def __init__(self, status: int, type: str, message: str, request_id: str | None = None) -> None:
        super().__init__(f"{status} {type}: {message}")
        self.status = status
        self.type = type
        self.message = message
        self.request_id = request_id


class ModelNotFoundError(RequestFailedError):
    """The server serves no model of this name."""


class QueueFullError(RequestFailedError):
    """Too many requests wait for a worker, or there is none: nothing was computed."""
