"""Bodies other than the answer: requests in each protocol, and TorchServe's own answers.

They describe the wire for `videopure.wire.openapi`; the server reads requests by hand, because its
errors say more.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from videopure.wire.options import Options
from videopure.wire.schemas import Answer

__all__ = [
    "Healthy",
    "InferInput",
    "InferOutput",
    "InferRequest",
    "InferResponse",
    "Instances",
    "Live",
    "ModelDescription",
    "ModelList",
    "Predictions",
    "Ready",
    "ServerError",
    "ServerMetadata",
    "ServerStatus",
    "VideoInJson",
    "WorkerDescription",
]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Told(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class VideoInJson(_Asked):
    """A video and its options."""

    video: str = Field(description="base64, also URL-safe, with line ends or as a data URI")
    options: Options = Options()


class Instances(_Asked):
    """KServe's protocol v1: several videos."""

    instances: list[VideoInJson] = Field(min_length=1)


class Predictions(_Told):
    """KServe's protocol v1: an answer for each instance, in order."""

    predictions: list[Answer] = Field(min_length=1)


class InferInput(_Asked):
    """The one tensor of a request."""

    name: Literal["video"]
    datatype: Literal["BYTES"]
    shape: list[int] = Field(max_length=8)
    data: list[Any] = Field(description="base64 strings, flat or in lists of the shape")
    parameters: dict[str, Any] = {}


class InferRequest(_Asked):
    """The open inference protocol (v2): one tensor of videos, options for all in `parameters`."""

    id: str | None = Field(None, max_length=256)
    inputs: list[InferInput] = Field(min_length=1, max_length=1)
    outputs: list[dict[str, Any]] = Field([], max_length=1)
    parameters: dict[str, Any] = {}


class InferOutput(_Told):
    """The one tensor of an answer: JSON texts, each an Answer."""

    name: Literal["answer"]
    datatype: Literal["BYTES"]
    shape: list[int]
    data: list[str]


class InferResponse(_Told):
    """The open inference protocol (v2)."""

    id: str
    model_name: str
    model_version: str
    outputs: list[InferOutput] = Field(min_length=1, max_length=1)


class ServerError(_Told):
    """An error of TorchServe itself: keys, queue, sizes, workers that died."""

    code: int = Field(ge=400, le=599)
    type: str
    message: str


class Healthy(_Told):
    """TorchServe's `/ping`, not a readiness check: it says Healthy while no worker can answer."""

    status: str


class Live(_Told):
    """The open inference protocol's liveness."""

    live: bool


class Ready(_Told):
    """The open inference protocol's readiness, which does not check for workers either."""

    ready: bool


class ServerMetadata(_Told):
    """The open inference protocol's description of the server."""

    name: str
    version: str
    extenstion: list[str] = Field(description="TorchServe 0.12's spelling")


class ServerStatus(_Told):
    """The management address's message about what it did."""

    status: str


class WorkerDescription(_Told):
    """A worker, as TorchServe describes it."""

    id: str
    status: str = Field(description="READY if it can answer")
    pid: int
    gpu: bool
    memoryUsage: int = Field(description="bytes")


class ModelDescription(_Told):
    """A model and its workers, as TorchServe describes them."""

    modelName: str
    modelVersion: str
    minWorkers: int
    maxWorkers: int
    batchSize: int
    maxBatchDelay: int = Field(description="milliseconds")
    workers: list[WorkerDescription]
    customizedMetadata: Any = Field(
        None,
        description="with customized=true: the model's description, an object or its JSON text",
    )


class ModelList(_Told):
    """The served models."""

    models: list[dict[str, Any]]
