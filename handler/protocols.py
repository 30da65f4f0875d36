"""What one HTTP or gRPC request holds: a single video, or several in KServe's protocols.

TorchServe hands `/v1/models/x:predict` and `/v2/models/x/infer` to the handler as they come, so
the body itself tells which protocol it speaks, on whichever path it was sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from videopure.handler.errors import InvalidRequestError, RequestError
from videopure.handler.requests import shown
from videopure.handler.responses import Reply

__all__ = ["Envelope", "open_envelope"]

Protocol = Literal["plain", "v1", "v2"]


@dataclass(frozen=True)
class Envelope:
    """The videos of a request, as rows that `parse_row` reads, and how they are answered."""

    protocol: Protocol
    rows: list[Mapping[str, Any]]
    request_id: str | None = None  # the client's own, of protocol v2

    def seal(self, replies: Sequence[Reply]) -> Reply:
        """One reply of the rows' replies; the first error is the answer for all."""
        if self.protocol == "plain":
            return replies[0]
        for number, reply in enumerate(replies):
            if reply.status >= 400:
                message = self._located(reply.body["message"], number)
                return replace(reply, body={**reply.body, "message": message})
        bodies = [reply.body for reply in replies]
        content = {"predictions": bodies} if self.protocol == "v1" else self._tensor(bodies)
        verdicts = tuple(verdict for reply in replies for verdict in reply.verdicts)
        clips = sum(reply.clips for reply in replies)
        return Reply(200, "OK", content, verdicts=verdicts, clips=clips)

    def locate(self, error: RequestError, number: int) -> RequestError:
        """The error, saying which of the videos it is about where there may be several."""
        return type(error)(self._located(str(error), number))

    def _located(self, message: str, number: int) -> str:
        return message if self.protocol == "plain" else f"video {number}: {message}"

    def _tensor(self, bodies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The v2 answer, whose one tensor holds JSON texts."""
        model = bodies[0]["model"]
        output = {
            "name": "answer",
            "datatype": "BYTES",
            "shape": [len(bodies)],
            "parameters": {"content_type": "application/json"},
            "data": [json.dumps(body, allow_nan=False) for body in bodies],
        }
        return {
            "id": self.request_id or bodies[0]["request_id"],
            "model_name": model["name"],
            "model_version": model["version"],
            "outputs": [output],
        }


def open_envelope(row: Mapping[str, Any], max_videos: int) -> Envelope:
    """Find the videos of a TorchServe row.

    - KServe v1: `{"instances": [{"video": base64, "options": {...}}]}`
    - open inference protocol (v2): one BYTES tensor `video` of base64 strings in `inputs`, options
      in `parameters`, for all of them
    - anything else is one video, left as it is

    Raises:
        InvalidRequestError: naming the field and its value.
    """
    body = row.get("body")
    if isinstance(body, Mapping) and "instances" in body:
        return Envelope("v1", _instances(body, max_videos))
    if isinstance(body, Mapping) and "inputs" in body:
        own_id = body.get("id")
        if own_id is not None and not isinstance(own_id, str):
            raise InvalidRequestError(f"field 'id' must be a string, got {shown(own_id)}")
        return Envelope("v2", _tensor_rows(body, max_videos), own_id)
    return Envelope("plain", [row])


def _instances(body: Mapping[str, Any], max_videos: int) -> list[Mapping[str, Any]]:
    instances = _list(body, "instances", max_videos)
    for number, instance in enumerate(instances):
        if not isinstance(instance, Mapping):
            raise InvalidRequestError(
                f"instances[{number}] must be an object with 'video' and 'options', got "
                f"{shown(instance)}"
            )
    return [{"body": instance} for instance in instances]


def _tensor_rows(body: Mapping[str, Any], max_videos: int) -> list[Mapping[str, Any]]:
    options = body.get("parameters", {})
    inputs = body["inputs"]
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], Mapping):
        raise InvalidRequestError(
            f"field 'inputs' must hold one tensor, 'video', got {shown(inputs)}"
        )
    tensor = inputs[0]
    for field, wanted in (("name", "video"), ("datatype", "BYTES")):
        if tensor.get(field) != wanted:
            raise InvalidRequestError(
                f"{field!r} of the input tensor must be {wanted!r}, got {shown(tensor.get(field))}"
            )
    data = _list(tensor, "data", max_videos)
    if tensor.get("shape") not in ([len(data)], [len(data), 1]):
        raise InvalidRequestError(
            f"'shape' of the input tensor must be [{len(data)}], as many as its data, got "
            f"{shown(tensor.get('shape'))}"
        )
    return [{"body": {"video": video, "options": options}} for video in data]


def _list(holder: Mapping[str, Any], field: str, longest: int) -> list[Any]:
    values = holder.get(field)
    if not isinstance(values, list) or not 1 <= len(values) <= longest:
        got = f"{len(values)} of them" if isinstance(values, list) else shown(values)
        raise InvalidRequestError(f"field {field!r} must list 1 to {longest} videos, got {got}")
    return values
