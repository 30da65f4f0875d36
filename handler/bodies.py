"""Reads a request's body: JSON, gzip, or binary tensors.

TorchServe parses a body only if its Content-Type is exactly JSON's, and never unpacks one. So it is
done here, under our own limits.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from videopure.handler.errors import InvalidRequestError, TooLargeError
from videopure.handler.requests import decode_base64, is_base64, shown

__all__ = ["Headers", "open_body"]

# Names of a client's headers, in lower case.
Headers = Mapping[str, str]

# JSON of a request has a few fields for each video; millions of them take minutes and gigabytes.
_MOST_PARTS = 100_000
# Base64 takes 4 bytes for 3, plus fields and line ends.
_JSON_OVERHEAD = 1.5
_TENSOR_HEADER = "inference-header-content-length"
_WHITESPACE = b" \t\r\n"


def open_body(row: Mapping[str, Any], headers: Headers, max_bytes: int) -> Mapping[str, Any]:
    """A TorchServe row whose `body` is a mapping if it was JSON, and bytes otherwise.

    Args:
        row: the row from TorchServe.
        headers: headers of the request, names in lower case.
        max_bytes: limit for a video; the body may be larger by base64's overhead.

    Raises:
        InvalidRequestError, TooLargeError: saying why.
    """
    body = row.get("body")
    if isinstance(body, str):  # of a text/... type
        body = body.encode()
    if not isinstance(body, bytes | bytearray):
        return row
    data = bytes(body)
    most = int(max_bytes * _JSON_OVERHEAD) + (1 << 20)
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in ("gzip", "x-gzip", "deflate"):
        data = _unpack(data, most)
    elif coding not in ("identity", ""):
        raise InvalidRequestError(f"Content-Encoding must be gzip or deflate, got {shown(coding)}")
    if _TENSOR_HEADER in headers:
        return {**row, "body": _binary_tensors(data, headers[_TENSOR_HEADER])}
    text = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip(_WHITESPACE)
    if text[:1] in (b"{", b"["):
        return {**row, "body": _parse(data)}
    return {**row, "body": data}


def _unpack(data: bytes, most: int) -> bytes:
    """The unpacked body; the header tells gzip from zlib."""
    unpacker = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(data, most)
    except zlib.error as error:
        raise InvalidRequestError(f"the body cannot be unpacked by gzip: {error}") from None
    if unpacker.unconsumed_tail:
        raise TooLargeError(f"the body unpacks to more than {most} bytes")
    if not unpacker.eof:
        raise InvalidRequestError("the body is cut short: the end of its gzip data is missing")
    return unpacked


def _parse(data: bytes) -> Mapping[str, Any]:
    """Parse the JSON of an object."""
    if sum(map(data.count, (b"[", b"{", b","))) > _MOST_PARTS:  # base64 has none of them
        raise InvalidRequestError(f"the JSON body has more than {_MOST_PARTS} parts")
    try:
        parsed = json.loads(data.decode("utf-8-sig"))
        if b"\\u" in data:  # a lone surrogate is not text, and fails wherever it is used
            json.dumps(parsed, ensure_ascii=False).encode()
    except RecursionError:
        raise InvalidRequestError("the JSON body is nested too deep") from None
    except UnicodeEncodeError:
        raise InvalidRequestError(
            "the JSON body has half of a pair of surrogates (\\ud800 to \\udfff), which is not text"
        ) from None
    except ValueError as error:  # UnicodeDecodeError, JSONDecodeError, numbers too long
        raise InvalidRequestError(
            f"the body looks like JSON but cannot be parsed: {str(error)[:200]}"
        ) from None
    if not isinstance(parsed, dict):
        raise InvalidRequestError(
            f"the JSON body must be an object, got a {type(parsed).__name__}: "
            '{"video": "<base64>", "options": {}}'
        )
    return parsed


def _binary_tensors(data: bytes, header: str) -> Mapping[str, Any]:
    """Triton's binary tensor extension: JSON, then the bytes of each tensor in turn.

    Each element of a BYTES tensor follows its length, 4 bytes little-endian.
    """
    if not header.isascii() or not header.isdigit() or int(header) > len(data):
        raise InvalidRequestError(
            f"Inference-Header-Content-Length must be in 0..{len(data)}, the bytes of the body, "
            f"got {shown(header)}"
        )
    body = dict(_parse(data[: int(header)]))
    inputs, at = [], int(header)
    for tensor in body["inputs"] if isinstance(body.get("inputs"), list) else []:
        parameters = tensor.get("parameters", {}) if isinstance(tensor, dict) else {}
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            inputs.append(tensor)
            continue
        if type(size) is not int or not 0 <= size <= len(data) - at:
            raise InvalidRequestError(
                f"'binary_data_size' must be in 0..{len(data) - at}, the remaining bytes, got "
                f"{shown(size)}"
            )
        inputs.append({**tensor, "data": _elements(data[at : at + size])})
        at += size
    return {**body, "inputs": inputs} if "inputs" in body else body


def _elements(data: bytes) -> list[bytes]:
    """The elements of a BYTES tensor; base64 elements are decoded."""
    elements, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise InvalidRequestError("the binary tensor is cut short: an element lacks its length")
        (size,) = struct.unpack_from("<I", data, at)
        element = data[at + 4 : at + 4 + size]
        if len(element) < size:
            raise InvalidRequestError(
                f"the binary tensor is cut short: an element of {size} bytes has {len(element)}"
            )
        text = is_base64(element)
        elements.append(decode_base64(element, "the binary tensor") if text else element)
        at += 4 + size
        if len(elements) > _MOST_PARTS:
            raise InvalidRequestError(f"the binary tensor has more than {_MOST_PARTS} elements")
    return elements
