"""The errors of a request; each becomes the answer to that request alone."""

from __future__ import annotations

__all__ = [
    "ForbiddenError",
    "InternalError",
    "InvalidRequestError",
    "NotAVideoError",
    "OutOfMemoryError",
    "OutOfTimeError",
    "RequestError",
    "TooLargeError",
    "TooSimilarError",
    "UnusableVideoError",
]


class RequestError(Exception):
    """An error with an HTTP status and its reason phrase."""

    status = 500
    phrase = "Internal Server Error"


class InvalidRequestError(RequestError):
    """An option is unknown or has a bad value, or the request holds no video."""

    status = 400
    phrase = "Bad Request"


class ForbiddenError(RequestError):
    """Only the operator may ask for this, and the request lacks the operator's key."""

    status = 403
    phrase = "Forbidden"


class TooLargeError(RequestError):
    """The video exceeds a limit on bytes, seconds, frames, pixels, decoding time or memory."""

    status = 413
    phrase = "Payload Too Large"


class TooSimilarError(RequestError):
    """The clip is a near-duplicate of too many recent ones of the same client."""

    status = 429
    phrase = "Too Many Requests"


class NotAVideoError(RequestError):
    """The bytes are not a video of a supported container and codec."""

    status = 415
    phrase = "Unsupported Media Type"


class UnusableVideoError(RequestError):
    """A video, but empty, damaged or too small to recognise anything in."""

    status = 422
    phrase = "Unprocessable Content"


class OutOfMemoryError(RequestError):
    """Even this clip alone does not fit the memory."""

    status = 507
    phrase = "Insufficient Storage"


class OutOfTimeError(RequestError):
    """The batch came too close to the time after which TorchServe kills its worker."""

    status = 503
    phrase = "Service Unavailable"


class InternalError(RequestError):
    """An internal error; the worker's log has the details under the request's id."""
