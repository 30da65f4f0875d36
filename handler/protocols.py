"""The content of one HTTP or gRPC request: a single video, or several in KServe's protocols.

TorchServe hands `/v1/models/x:predict` and `/v2/models/x/infer` to the handler unchanged, so the
body itself tells which protocol it uses, whatever its path.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from videopure.handler.errors import InvalidRequestError, RequestError
from videopure.handler.requests import shown
from videopure.handler.responses import Reply

__all__ = ["Envelope", "open_envelope"]

Protocol = Literal["plain", "v1", "v2"]
_OUTPUT = "answer"
# Text repeated to the client is bounded: an answer that is too large kills the worker.
_LONGEST_ID = 256  # characters
_MOST_SIDES = 8  # dimensions of a tensor's shape
_V2_FIELDS = ("id", "inputs", "outputs", "parameters")
_TENSOR_FIELDS = ("name", "shape", "datatype", "parameters", "data")


@dataclass(frozen=True)
class Envelope:
    """The videos of a request, as rows that `parse_row` reads, and how they are answered.

    Args:
        request_id: the client's own id, in protocol v2.
        shape: shape of protocol v2's tensor; the answer has the same.
        binary: whether the answer's tensor follows its JSON as bytes.
    """

    protocol: Protocol
    rows: list[Mapping[str, Any]]
    request_id: str | None = None
    shape: tuple[int, ...] = ()
    binary: bool = False

    def seal(self, replies: Sequence[Reply]) -> Reply:
        """Combine the rows' replies into one; the first error is the answer for all."""
        if self.protocol == "plain":
            return replies[0]
        for number, reply in enumerate(replies):
            if reply.status >= 400:
                message = self._located(reply.body["message"], number)
                return replace(reply, body={**reply.body, "message": message})
        bodies = [reply.body for reply in replies]
        judged = tuple(one for reply in replies for one in reply.judged)
        clips = sum(reply.clips for reply in replies)
        if self.protocol == "v1":
            return Reply(200, "OK", {"predictions": bodies}, judged=judged, clips=clips)
        reply = Reply(200, "OK", self._tensor(bodies), judged=judged, clips=clips)
        return _in_binary(reply) if self.binary else reply

    def locate(self, error: RequestError, number: int) -> RequestError:
        """The error, naming the video that it is about if there may be several."""
        return type(error)(self._located(str(error), number))

    def _located(self, message: str, number: int) -> str:
        return message if self.protocol == "plain" else f"video {number}: {message}"

    def _tensor(self, bodies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The v2 answer, whose one tensor holds JSON texts."""
        model = bodies[0]["model"]
        output = {
            "name": _OUTPUT,
            "datatype": "BYTES",
            "shape": list(self.shape),
            "parameters": {"content_type": "application/json"},
            "data": [json.dumps(body, allow_nan=False) for body in bodies],
        }
        return {
            "id": self.request_id or bodies[0]["request_id"],
            "model_name": model["name"],
            "model_version": model["version"],
            "outputs": [output],
        }


def _in_binary(reply: Reply) -> Reply:
    """A v2 answer by Triton's binary tensor extension: its JSON, then the tensor's bytes."""
    (output,) = reply.body["outputs"]
    texts = [text.encode() for text in output["data"]]
    tensor = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    parameters = {**output["parameters"], "binary_data_size": len(tensor)}
    told = {key: value for key, value in output.items() if key != "data"}
    content = {**reply.body, "outputs": [{**told, "parameters": parameters}]}
    header = json.dumps(content, allow_nan=False).encode()
    return replace(
        reply,
        media=header + tensor,
        media_type="application/octet-stream",
        headers={"Inference-Header-Content-Length": str(len(header))},
    )


def open_envelope(row: Mapping[str, Any], max_videos: int) -> Envelope:
    """Find the videos of a TorchServe row.

    - KServe v1: `{"instances": [{"video": base64, "options": {...}}]}`
    - open inference protocol (v2): one BYTES tensor `video` in `inputs`, of base64 strings or, from
    a binary tensor in `open_body`, of bytes; options in `parameters`, for all of them
    - anything else is one video, unchanged

    Raises:
        InvalidRequestError: naming the field and its value.
    """
    body = row.get("body")
    if isinstance(body, Mapping) and "instances" in body:
        _check_fields(body, ("instances",), "options belong in each instance")
        return Envelope("v1", _instances(body, max_videos))
    if isinstance(body, Mapping) and "inputs" in body:
        return _open_v2(body, max_videos)
    return Envelope("plain", [row])


def _check_fields(holder: Mapping[str, Any], known: Sequence[str], hint: str) -> None:
    for field in holder:
        if field not in known:
            raise InvalidRequestError(
                f"unknown field {shown(field)}; the fields are {', '.join(known)}: {hint}"
            )


def _instances(body: Mapping[str, Any], max_videos: int) -> list[Mapping[str, Any]]:
    instances = _list(body, "instances", max_videos)
    for number, instance in enumerate(instances):
        if not isinstance(instance, Mapping):
            raise InvalidRequestError(
                f"instances[{number}] must be an object with 'video' and 'options', got "
                f"{shown(instance)}"
            )
    return [{"body": instance} for instance in instances]


def _open_v2(body: Mapping[str, Any], max_videos: int) -> Envelope:
    _check_fields(body, _V2_FIELDS, "options belong in 'parameters'")
    own_id = body.get("id")
    if own_id is not None and not isinstance(own_id, str):
        raise InvalidRequestError(f"field 'id' must be a string, got {shown(own_id)}")
    if own_id is not None and len(own_id) > _LONGEST_ID:
        raise InvalidRequestError(
            f"field 'id' may have {_LONGEST_ID} characters, got {len(own_id)}: {shown(own_id)}"
        )
    parameters = body.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise InvalidRequestError(f"field 'parameters' must be an object, got {shown(parameters)}")
    options = dict(parameters)
    by_default = options.pop("binary_data_output", False)
    binary = _flag(_requested(body), "binary_data", by_default)
    shape, videos = _videos(body["inputs"], max_videos)
    rows: list[Mapping[str, Any]] = [
        {"body": {"video": video, "options": options}} for video in videos
    ]
    return Envelope("v2", rows, own_id, shape, binary)


def _requested(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of the only output that can be requested."""
    outputs = body.get("outputs") or [{"name": _OUTPUT}]
    wanted = isinstance(outputs, list) and len(outputs) == 1 and outputs[0]
    if not isinstance(wanted, Mapping) or wanted.get("name") != _OUTPUT:
        raise InvalidRequestError(
            f"field 'outputs' must name one tensor, {_OUTPUT!r}, got {shown(outputs)}"
        )
    parameters = wanted.get("parameters", {})
    return parameters if isinstance(parameters, Mapping) else {}


def _flag(holder: Mapping[str, Any], name: str, default: Any) -> bool:
    value = holder.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"parameter {name!r} must be true or false, got {shown(value)}")
    return value


def _videos(inputs: Any, max_videos: int) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of the one input tensor, and its elements."""
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], Mapping):
        raise InvalidRequestError(
            f"field 'inputs' must hold one tensor, 'video', got {shown(inputs)}"
        )
    tensor = inputs[0]
    _check_fields(tensor, _TENSOR_FIELDS, "options belong in the 'parameters' next to 'inputs'")
    for field, wanted in (("name", "video"), ("datatype", "BYTES")):
        if tensor.get(field) != wanted:
            raise InvalidRequestError(
                f"{field!r} of the input tensor must be {wanted!r}, got {shown(tensor.get(field))}"
            )
    data, shape = tensor.get("data"), tensor.get("shape")
    # A tensor of several dimensions may be flat, or nested lists.
    flat = list(_flattened(data, _MOST_SIDES)) if isinstance(data, list) else data
    videos = _list({"data": flat}, "data", max_videos)
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_SIDES
        or not all(type(side) is int for side in shape)
        or math.prod(shape) != len(videos)
    ):
        raise InvalidRequestError(
            f"'shape' of the input tensor must be [{len(videos)}], as many as its data, got "
            f"{shown(shape)}"
        )
    return tuple(shape), videos


def _flattened(values: list[Any], deepest: int) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list) and deepest:
            yield from _flattened(value, deepest - 1)
        else:
            yield value


def _list(holder: Mapping[str, Any], field: str, longest: int) -> list[Any]:
    values = holder.get(field)
    if not isinstance(values, list) or not 1 <= len(values) <= longest:
        got = f"{len(values)} of them" if isinstance(values, list) else shown(values)
        raise InvalidRequestError(f"field {field!r} must list 1 to {longest} videos, got {got}")
    return values
