"""What clients put into bodies, and how it is opened under limits."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from typing import Any

import pytest

from videopure.format.settings import HandlerSettings
from videopure.handler.bodies import open_body
from videopure.handler.errors import InvalidRequestError, RequestError, TooLargeError
from videopure.handler.protocols import Envelope, open_envelope
from videopure.handler.requests import parse_row

pytestmark = pytest.mark.unit

VIDEO = bytes(range(256)) * 3
BASE64 = base64.b64encode(VIDEO).decode()
BODY = {"video": BASE64, "options": {"top_k": 2}}
MOST = 10_000


def opened(body: Any, most: int = MOST, **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return open_body({"body": body}, names, most)["body"]


def videos(body: Any, **headers: str) -> Envelope:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return open_envelope(open_body({"body": body}, names, MOST), max_videos=4)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(BODY),
        json.dumps(BODY).encode(),
        bytearray(json.dumps(BODY, indent=2).encode()),
        b"\xef\xbb\xbf" + json.dumps(BODY).encode(),
        b" \r\n\t" + json.dumps(BODY).encode(),
        BODY,
    ],
    ids=["text", "bytes", "indented", "byte-order mark", "space before", "parsed"],
)
def test_json_is_known_by_its_looks(body: Any) -> None:
    assert opened(body) == BODY


@pytest.mark.parametrize("body", [VIDEO, bytearray(VIDEO), b"", b"\0{"])
def test_what_is_no_json_stays_bytes(body: bytes) -> None:
    assert opened(body) == bytes(body)


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP ", gzip.compress),
        ("deflate", zlib.compress),
    ],
)
def test_packed_bodies_are_unpacked(coding: str, pack: Any) -> None:
    assert opened(pack(VIDEO), content_encoding=coding) == VIDEO
    assert opened(pack(json.dumps(BODY).encode()), content_encoding=coding) == BODY


@pytest.mark.parametrize(
    ("body", "headers", "error", "words"),
    [
        (b"no gzip", {"content_encoding": "gzip"}, InvalidRequestError, "cannot be unpacked"),
        (gzip.compress(VIDEO)[:-9], {"content_encoding": "gzip"}, InvalidRequestError, "cut short"),
        (VIDEO, {"content_encoding": "br"}, InvalidRequestError, "must be gzip or deflate"),
        (gzip.compress(bytes(9_000_000)), {"content_encoding": "gzip"}, TooLargeError, "unpacks"),
        (b'{"video": ', {}, InvalidRequestError, "cannot be parsed: Expecting value: line 1"),
        (b"[1]", {}, InvalidRequestError, "must be an object, got a list"),
        (b"[" * 99_000, {}, InvalidRequestError, "nested too deep"),
        (b'{"a":[' + b"[]," * 60_000 + b"[]]}", {}, InvalidRequestError, "more than 100000 parts"),
        (b'{"a": "\xff"}', {}, InvalidRequestError, "cannot be parsed"),
        (b'{"a": {"\\ud800x": 1}}', {}, InvalidRequestError, "half of a pair of surrogates"),
        (b'{"a": ' + b"9" * 9_000 + b"}", {}, InvalidRequestError, "cannot be parsed"),
    ],
)
def test_faults_are_told(
    body: bytes, headers: dict[str, str], error: type[RequestError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        opened(body, **headers)
    assert len(str(caught.value)) < 500


def test_as_many_parts_as_are_allowed_are_read() -> None:
    body = b'{"a": [' + b"1," * 99_998 + b"1]}"
    assert len(opened(body, 1_000_000)["a"]) == 99_999
    with pytest.raises(InvalidRequestError, match="more than 100000 parts"):
        opened(body.replace(b"1]}", b"1,1]}"), 1_000_000)


def test_characters_in_escapes_are_read() -> None:
    assert opened(b'{"a": "\\ud83d\\ude00 \\u00e9"}') == {"a": "\U0001f600 é"}


@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        "\n".join(BASE64[at : at + 76] for at in range(0, len(BASE64), 76)) + "\n",
        "\r\n".join(BASE64[at : at + 76] for at in range(0, len(BASE64), 76)),
        f"data:video/mp4;base64,{BASE64}",
        base64.urlsafe_b64encode(VIDEO).decode(),
        base64.urlsafe_b64encode(VIDEO + b"\xff").decode().rstrip("="),
    ],
    ids=["plain", "wrapped", "wrapped as mail", "data URI", "URL-safe", "without padding"],
)
def test_base64_of_any_dress(text: str) -> None:
    video = parse_row({"body": {"video": text}}, HandlerSettings()).video
    assert video in (VIDEO, VIDEO + b"\xff")


@pytest.mark.parametrize("text", ["data:video/mp4,abc", "AAA*", "ä", "A"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="field 'video' of the JSON body is not base64"):
        parse_row({"body": {"video": text}}, HandlerSettings())


def tensors(*elements: bytes, shape: list[int] | None = None, **more: Any) -> tuple[bytes, str]:
    """A body of Triton's binary tensor extension, and its header's value."""
    data = b"".join(struct.pack("<I", len(element)) + element for element in elements)
    tensor = {
        "name": "video",
        "datatype": "BYTES",
        "shape": shape or [len(elements)],
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + data, str(len(head))


def test_binary_tensors_hold_the_videos_themselves() -> None:
    body, length = tensors(VIDEO, VIDEO[::-1], parameters={"top_k": 1, "binary_data_output": True})
    envelope = videos(body, inference_header_content_length=length)
    assert (envelope.protocol, envelope.shape, envelope.binary) == ("v2", (2,), True)
    found = [parse_row(row, HandlerSettings()) for row in envelope.rows]
    assert [request.video for request in found] == [VIDEO, VIDEO[::-1]]
    assert [request.options.top_k for request in found] == [1, 1]


def test_base64_in_binary_tensors_is_decoded() -> None:
    body, length = tensors(BASE64.encode())
    (row,) = videos(body, inference_header_content_length=length).rows
    assert parse_row(row, HandlerSettings()).video == VIDEO


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body, length: (body, "x"), "Inference-Header-Content-Length must be in 0"),
        (lambda body, length: (body, "99999"), "Inference-Header-Content-Length must be in 0"),
        (lambda body, length: (body, "5"), "cannot be parsed"),
        (lambda body, length: (body[:-1], length), "'binary_data_size' must be in 0"),
        (
            lambda body, length: (
                body[: int(length)] + b"\xff\xff\xff\x7f" + body[int(length) + 4 :],
                length,
            ),
            "an element of 2147483647 bytes has 768",
        ),
    ],
)
def test_broken_binary_tensors_are_refused(change: Any, words: str) -> None:
    body, length = change(*tensors(VIDEO))
    with pytest.raises(InvalidRequestError, match=words):
        videos(body, inference_header_content_length=length)


def tensor(data: Any, shape: Any, **more: Any) -> dict[str, Any]:
    video = {"name": "video", "datatype": "BYTES", "shape": shape, "data": data}
    return {"inputs": [{**video, **more}]}


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ([BASE64], [1]),
        ([BASE64], [1, 1]),
        ([[BASE64]], [1, 1]),
        ([[[BASE64], [BASE64]]], [1, 2, 1]),
    ],
)
def test_tensors_may_be_nested(data: Any, shape: list[int]) -> None:
    envelope = videos(tensor(data, shape))
    assert envelope.shape == tuple(shape)
    assert {row["body"]["video"] for row in envelope.rows} == {BASE64}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": [{"video": BASE64}], "options": {}}, r"unknown field 'options'; .*instance"),
        ({**tensor([BASE64], [1]), "options": {}}, r"unknown field 'options'; .*'parameters'"),
        (tensor([BASE64], [1], options={}), r"unknown field 'options'"),
        (tensor([BASE64], [2, 1]), r"'shape' of the input tensor must be \[1\]"),
        (tensor([BASE64], ["1"]), r"'shape' of the input tensor must be \[1\]"),
        (tensor([[BASE64] * 5], [1, 5]), r"'data' must list 1 to 4 videos, got 5"),
        ({**tensor([BASE64], [1]), "outputs": [{"name": "x"}]}, r"must name one tensor, 'answer'"),
        (
            {**tensor([BASE64], [1]), "parameters": {"binary_data_output": 1}},
            "'binary_data' must be true or false, got 1",
        ),
        ({**tensor([BASE64], [1]), "parameters": 3}, "'parameters' must be an object, got 3"),
    ],
)
def test_what_would_be_ignored_is_refused(body: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        videos(body)
