"""From a row of a TorchServe batch to a checked request."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from videopure.format.settings import HandlerSettings
from videopure.handler.errors import InvalidRequestError
from videopure.wire.options import Options

__all__ = ["Options", "Request", "decode_base64", "is_base64", "parse_row", "shown"]

# A raw body arrives as `body`, or as `data` from some clients; in multipart the field is `video`.
_VIDEO_FIELDS = ("video", "body", "data")
_SHOWN = 100  # characters of a bad value that its error shows
_FAULTS = 5  # bad options that one error names
_WHITESPACE = b" \t\r\n"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=" + _WHITESPACE


@dataclass(frozen=True)
class Request:
    """A video, still encoded, and its options."""

    video: bytes
    options: Options


def parse_row(row: Mapping[str, Any], settings: HandlerSettings) -> Request:
    """Read one row: a raw body, multipart fields, or JSON `{"video": base64, "options": {}}`.

    Options are also checked against the archive's limits.

    Raises:
        InvalidRequestError: naming the field or option, its value and what is allowed.
    """
    body = row.get("body")
    if isinstance(body, Mapping):
        video, options = _from_json(body)
    else:
        video, options = _from_fields(row)
    parsed = parse_options(options)
    _check_range("inversion_steps", parsed.inversion_steps, 0, settings.max_inversion_steps)
    if parsed.clips != "auto":
        _check_range("clips", parsed.clips, 1, settings.max_clips)
    return Request(video, parsed)


def _check_range(option: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise InvalidRequestError(f"option {option!r} must be in {low}..{high}, got {shown(value)}")


def parse_options(options: Mapping[str, Any]) -> Options:
    """Check options; text, as multipart sends it, is read as the option's type."""
    try:
        return Options.model_validate(dict(options))
    except ValidationError as error:
        # For a number or a word, the number's fault says enough.
        faults = [fault for fault in error.errors() if fault["loc"][1:] != ("literal['auto']",)]
        raise InvalidRequestError("; ".join(map(_fault, faults[:_FAULTS]))) from None


def _fault(fault: Any) -> str:
    name = shown(str(fault["loc"][0]))
    if fault["type"] == "extra_forbidden":
        return f"unknown option {name}; the options are {', '.join(Options.model_fields)}"
    return f"option {name}: {fault['msg']}, got {shown(fault['input'])}"


def shown(value: Any) -> str:
    """A value of the request for an error message, at most about a hundred characters of it.

    It may be as long as the request, and an answer beyond `max_response_size` kills the worker.
    """
    if isinstance(value, str) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}..."
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # JSON nested too deep, a number too long to print
        return f"a {type(value).__name__}"
    return text if len(text) <= 4 * _SHOWN else f"{text[:_SHOWN]}..."


def _from_json(body: Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
    unknown = sorted(set(body) - {"video", "options"})
    if unknown:
        raise InvalidRequestError(
            f"unknown field {shown(unknown[0])} in the JSON body; the fields are video, options"
        )
    video, options = body.get("video"), body.get("options", {})
    if not isinstance(video, str | bytes):  # bytes: of a binary tensor
        raise InvalidRequestError(
            f"field 'video' of the JSON body must be a base64 string, got {type(video).__name__}"
        )
    if not isinstance(options, Mapping):
        raise InvalidRequestError(
            f"field 'options' of the JSON body must be an object, got {type(options).__name__}"
        )
    if isinstance(video, str):
        video = decode_base64(video.encode(), "field 'video' of the JSON body")
    return video, options


def is_base64(data: bytes) -> bool:
    """Whether bytes are only base64, which no video is."""
    return bool(data) and not data.translate(None, _BASE64)


def decode_base64(text: bytes, where: str) -> bytes:
    """Decode base64 as clients write it: with line ends, URL-safe, or as a data URI.

    Raises:
        InvalidRequestError: naming where it was.
    """
    try:
        if text[:5] == b"data:":
            head, _, text = text.partition(b",")
            if not head.endswith(b";base64"):
                raise ValueError("a data URI starts with data:TYPE;base64,")
        plain = text.translate(_URL_SAFE, _WHITESPACE).rstrip(b"=")
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except ValueError as error:  # binascii.Error
        raise InvalidRequestError(f"{where} is not base64: {error}") from None


def _from_fields(row: Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
    fields = dict(row)
    names = [name for name in _VIDEO_FIELDS if name in fields]
    if not names:
        raise InvalidRequestError(
            "the request holds no video: send it as the body with a Content-Type such as video/mp4 "
            "(curl: -T FILE, as --data-binary alone sends a form), as the multipart field 'video', "
            "or base64-encoded in JSON"
        )
    video = fields.pop(names[0])
    if isinstance(video, str):
        video = video.encode()
    if not isinstance(video, bytes | bytearray):
        raise InvalidRequestError(
            f"field {names[0]!r} must hold the bytes of a video, got {type(video).__name__}"
        )
    data = bytes(video)
    if data[:1] in (b"{", b"["):
        raise InvalidRequestError("the body looks like JSON but cannot be parsed as an object")
    return data, {name: _text(name, value) for name, value in fields.items()}


def _text(name: str, value: Any) -> Any:
    """A multipart field's value as text."""
    if not isinstance(value, bytes | bytearray):
        return value
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(f"option {shown(name)} is not UTF-8 text") from None
