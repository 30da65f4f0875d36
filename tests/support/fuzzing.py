"""Requests and files that no decent client sends: the same ones for the same seed and number."""

from __future__ import annotations

import base64
import gzip
import json
import random
import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.damage import DAMAGES, whole_files
from tests.support.videos import encode, frames
from videopure.handler.requests import Options
from videopure.wire.operator import OPERATOR_HEADER

__all__ = ["KEY", "Sent", "fuzzed_file", "fuzzed_request"]

KEY = "the-operators-key-in-fuzzing-runs"  # of 32 characters or more
_OPERATOR = {OPERATOR_HEADER: KEY}
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True)
class Sent:
    """A request as a client sends it.

    Args:
        path: of the address.
        headers: beside TorchServe's own key.
        body: its bytes.
        fields: of a form instead of a body.
    """

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fields: Mapping[str, bytes] | None = None

    def row(self) -> dict[str, Any]:
        """What TorchServe hands to the handler of it."""
        if self.fields is not None:
            return {name: bytearray(value) for name, value in self.fields.items()}
        return {"body": bytearray(self.body)}

    def seen_headers(self) -> dict[str, str]:
        """The headers that the handler sees."""
        marks = {"explain": "True"} if self.path.startswith("/explanations/") else {}
        return {**self.headers, **marks}

    def over_http(self) -> Sent:
        """The same with its form written out."""
        if self.fields is None:
            return self
        boundary = uuid.UUID(int=0).hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
            + (b'; filename="v.mp4"\r\n' if name == "video" else b"\r\n")
            + b"\r\n"
            + value
            + b"\r\n"
            for name, value in self.fields.items()
        ]
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        headers = {**self.headers, "Content-Type": f"multipart/form-data; boundary={boundary}"}
        return replace(self, headers=headers, body=body, fields=None)


_VIDEO = encode(frames(4, 16, 24), "matroska", "ffv1", "bgr0")
_BASE64 = base64.b64encode(_VIDEO).decode()


def fuzzed_request(number: int, seed: int = 0) -> Sent:
    """A request whose parts are each good or odd."""
    rng = random.Random(f"request-{seed}-{number}")
    made = _KINDS[number % len(_KINDS)](rng)
    headers = {**made.headers, **_headers(rng)}
    if rng.random() < 0.8:  # most get far only so, and without the work of purification
        headers |= _OPERATOR
    if made.fields is None and rng.random() < 0.3:
        made = replace(made, body=_broken(made.body, rng))
    return replace(made, headers=headers)


def fuzzed_file(number: int, seed: int = 0) -> Sent:
    """A damaged video file, in a form that asks the bare recogniser."""
    rng = random.Random(f"file-{seed}-{number}")
    whole = whole_files()
    names = sorted(whole)
    data = whole[names[number % len(names)]]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if len(data) < 16:
            break
        damage = rng.choice((*DAMAGES, _extreme, _doubled, _swapped, _grown))
        data = damage(data, whole[rng.choice(names)], rng)
    return Sent("/predictions/videopure", _OPERATOR, fields={"video": data, "purify": b"false"})


def _extreme(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Lengths and counts that are as large or small as can be."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        pack = rng.choice(("<I", ">I", "<H", ">H", "B"))
        at = rng.randrange(len(changed))
        most = (1 << 8 * struct.calcsize(pack)) - 1
        if at + struct.calcsize(pack) <= len(changed):
            struct.pack_into(pack, changed, at, min(most, rng.choice(_EXTREMES)))
    return bytes(changed)


def _doubled(data: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    part = data[start : start + rng.randrange(1, 500)]
    return data[:start] + part * rng.choice((2, 3, 20)) + data[start + len(part) :]


def _swapped(data: bytes, other: bytes, rng: random.Random) -> bytes:
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    size = rng.randrange(1, 200)
    one, two = data[first : first + size], data[second : second + size]
    return data[:first] + two + data[first + size : second] + one + data[second + size :]


def _grown(data: bytes, other: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randrange(1, 300)) + data[at:]


def _broken(body: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, lost or too many."""
    if not body:
        return rng.randbytes(rng.randrange(20))
    at = rng.randrange(len(body))
    return rng.choice(
        (
            body[:at],
            body[:at] + rng.randbytes(3) + body[at:],
            body[:at] + body[at + 1 :],
            body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :],
            body + body,
        )
    )


def _value(rng: random.Random, depth: int = 0) -> Any:
    """Something that JSON can say."""
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: rng.choice((-1, 0, 1, 2, 3, 10, 256, 2**31, 2**63, 2**70, -(10**300))),
        lambda: rng.choice((0.5, -0.0, 1e308, float("nan"), float("inf"), 1.0)),
        lambda: rng.choice(("early", "full", "videopure", "ddpm", "one_look", "auto", "", "true")),
        lambda: _text(rng),
        lambda: _BASE64[: rng.randrange(len(_BASE64))],
    ]
    if depth < 3:
        kinds += [
            lambda: [_value(rng, depth + 1) for _ in range(rng.randrange(4))],
            lambda: {_text(rng): _value(rng, depth + 1) for _ in range(rng.randrange(4))},
        ]
    return rng.choice(kinds)()


def _text(rng: random.Random) -> str:
    size = rng.choice((0, 1, 8, 8, 300, 5000))
    letters = rng.choice(("abc_", "éß☃\U0001f600", "\x00\x1f\x7f\"'\\\n", "\ud800x", "0123456789"))
    return "".join(rng.choices(letters, k=size))


def _or_odd(rng: random.Random, good: Any, share: float = 0.08) -> Any:
    return _value(rng) if rng.random() < share else good


def _options(rng: random.Random) -> dict[str, Any]:
    good = {"top_k": 2, "clips": 1, "purify": False, "votes": "early", "inversion_steps": 0}
    chosen = {n: _or_odd(rng, v) for n, v in good.items() if rng.random() < 0.4}
    if rng.random() < 0.2:
        chosen[rng.choice([*Options.model_fields, _text(rng)])] = _value(rng)
    return {"purify": False, **chosen}


def _json(rng: random.Random, content: Any, path: str = "/predictions/videopure") -> Sent:
    text = json.dumps(_or_odd(rng, content, 0.05), ensure_ascii=rng.random() < 0.7)
    if rng.random() < 0.03:
        text = "[" * 5000 + text
    coding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig"))
    return Sent(path, {"Content-Type": "application/json"}, text.encode(coding, "surrogatepass"))


def _raw(rng: random.Random) -> Sent:
    # Few are good: without options they are purified, which takes longer than all the rest.
    odd = (b"", _BASE64.encode(), rng.randbytes(300), _broken(_VIDEO, rng), _VIDEO[:200])
    body = _VIDEO if rng.random() < 0.1 else rng.choice(odd)
    return Sent("/predictions/videopure", {"Content-Type": "video/mp4"}, body)


def _evidence(rng: random.Random) -> Sent:
    return replace(_raw(rng), path="/explanations/videopure")


def _form(rng: random.Random) -> Sent:
    options = _options(rng).items()
    fields = {name: str(value).lower().encode(errors="replace") for name, value in options}
    if rng.random() < 0.8:
        fields[rng.choice(("video", "video", "video", "data", "body"))] = _or_odd_bytes(rng)
    if rng.random() < 0.1:
        fields[rng.choice(("explain", "describe", "x"))] = rng.randbytes(8)
    plain = {name: value for name, value in fields.items() if name.isidentifier()}
    return Sent("/predictions/videopure", fields=plain)


def _or_odd_bytes(rng: random.Random) -> bytes:
    return rng.choice((_VIDEO, _VIDEO, _VIDEO, b"", rng.randbytes(100), _BASE64.encode()))


def _plain(rng: random.Random) -> Sent:
    content = {"video": _or_odd(rng, _BASE64), "options": _or_odd(rng, _options(rng))}
    if rng.random() < 0.1:
        content[_text(rng)] = _value(rng)
    return _json(rng, content)


def _v1(rng: random.Random) -> Sent:
    videos = [{"video": _or_odd(rng, _BASE64), "options": _options(rng)} for _ in range(_few(rng))]
    content = {"instances": _or_odd(rng, [_or_odd(rng, video, 0.05) for video in videos])}
    return _json(rng, content, "/v1/models/videopure:predict")


def _v2(rng: random.Random) -> Sent:
    return _json(rng, _tensor(rng, _few(rng)), "/v2/models/videopure/infer")


def _few(rng: random.Random) -> int:
    return rng.choice((0, 1, 1, 1, 2, 3, 12))


def _tensor(rng: random.Random, count: int) -> dict[str, Any]:
    tensor = {
        "name": _or_odd(rng, "video", 0.05),
        "datatype": _or_odd(rng, "BYTES", 0.05),
        "shape": _or_odd(rng, [count]),
        "data": _or_odd(rng, [_BASE64] * count),
    }
    content = {
        "id": _or_odd(rng, "mine", 0.3),
        "inputs": _or_odd(rng, [tensor], 0.05),
        "parameters": _or_odd(rng, _options(rng)),
    }
    if rng.random() < 0.2:
        content["outputs"] = _or_odd(rng, [{"name": "answer", "parameters": _value(rng)}])
    return content


def _binary(rng: random.Random) -> Sent:
    """Triton's binary tensor extension."""
    content = _tensor(rng, 1)
    data = struct.pack("<I", _or_odd_size(rng, len(_VIDEO))) + _VIDEO
    if isinstance(content["inputs"], list) and content["inputs"] and rng.random() < 0.9:
        tensor = content["inputs"][0]
        if isinstance(tensor, dict):
            tensor.pop("data", None)
            tensor["parameters"] = {"binary_data_size": _or_odd(rng, len(data))}
    head = json.dumps(content).encode()
    length = _or_odd(rng, str(len(head)))
    headers = {"Inference-Header-Content-Length": _header_value(length)}
    kind = {"Content-Type": "application/octet-stream"}
    return Sent("/v2/models/videopure/infer", {**kind, **headers}, head + data)


def _or_odd_size(rng: random.Random, good: int) -> int:
    return rng.choice(_EXTREMES) if rng.random() < 0.2 else good


def _packed(rng: random.Random) -> Sent:
    made = rng.choice((_raw, _plain))(rng)
    coding = rng.choice(("gzip", "gzip", "x-gzip", "deflate", "GZIP"))
    body = gzip.compress(rng.choice((made.body, bytes(2_000_000))), mtime=0)
    return replace(made, headers={**made.headers, "Content-Encoding": coding}, body=body)


def _headers(rng: random.Random) -> dict[str, str]:
    """None, or a few odd ones."""
    choices = {
        "Content-Type": ("", "text/plain", "application/json", "multipart/form-data", "video/mp4"),
        "Content-Encoding": ("identity", "br", "", "gzip, gzip", "deflate"),
        "Inference-Header-Content-Length": ("0", "-1", "1e9", "99999999999999999999", "²", ""),
        OPERATOR_HEADER: ("", "wrong", KEY[:-1], "é" * 32, KEY.upper()),
        "describe": ("True", "true", ""),
        "explain": ("True", "False"),
        "Accept": ("video/mp4", "*/*"),
        "X-Request-Id": ("../../etc/passwd", "x" * 2000),
    }
    if rng.random() < 0.6:
        return {}
    names = rng.sample(sorted(choices), rng.choice((1, 1, 2)))
    return {name: rng.choice(choices[name]) for name in names}


def _header_value(value: Any) -> str:
    """Of what HTTP lets through."""
    return "".join(c for c in str(value) if " " <= c < "\x7f")[:500]


_KINDS = (_raw, _form, _plain, _v1, _v2, _binary, _packed, _evidence, _form, _plain)
