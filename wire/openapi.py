"""OpenAPI 3.1 of every address, made from the pydantic schemas.

`python -m videopure.wire.openapi` prints it; docs/openapi.json holds it. TorchServe describes its
own addresses only in part, and the model's answers not at all.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from videopure.wire import bodies, schemas
from videopure.wire.operator import OPERATOR_HEADER
from videopure.wire.options import Options

__all__ = ["openapi"]

Json = dict[str, Any]
_MODELS: tuple[tuple[type[BaseModel], Literal["validation", "serialization"]], ...] = (
    (schemas.Answer, "serialization"),
    (schemas.ErrorAnswer, "serialization"),
    (Options, "validation"),
    *((getattr(bodies, name), "validation") for name in bodies.__all__),
)
_PORTS = {"inference": 8080, "management": 8081, "metrics": 8082}
# Status and its meaning; who answers it: the model, TorchServe, or both.
_ERRORS = {
    400: ("An unknown option, a bad value, no video; TorchServe: no valid key.", "both"),
    403: ("The operator's evidence without the operator's key, or a wrong one.", "model"),
    404: ("No such model.", "server"),
    413: ("More than the archive's limits; empty if it exceeds max_request_size.", "model"),
    415: ("Not a video of a supported container.", "model"),
    422: ("An empty, encrypted or tiny video, or one with too much missing.", "model"),
    429: ("A near-duplicate of too many recent clips of the same client.", "model"),
    500: ("The worker died.", "server"),
    503: ("Out of time; TorchServe: the queue is full, or there is no worker.", "both"),
    507: ("The clip alone does not fit the memory; TorchServe: the worker died.", "both"),
}
_BY = {"model": ["ErrorAnswer"], "server": ["ServerError"], "both": ["ErrorAnswer", "ServerError"]}


def openapi() -> Json:
    """The document: inference, management and metrics addresses of a TorchServe with VideoPure."""
    _, definitions = models_json_schema(_MODELS, ref_template="#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "VideoPure for TorchServe",
            "version": "1.0",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Clips are purified before a video recogniser sees them. TorchServe "
            "listens on three ports; each path names its default one.",
        },
        "security": [{"key": []}],
        "paths": {**_model_paths(), **_server_paths(), **_management_paths(), **_metrics_path()},
        "components": {
            "securitySchemes": _security(),
            "schemas": dict(sorted(definitions["$defs"].items())),
        },
    }


def _security() -> Json:
    return {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "A key of key_file.json, of the port's own purpose.",
        },
        "operator": {
            "type": "apiKey",
            "in": "header",
            "name": OPERATOR_HEADER,
            "description": "Allows every option and full answers.",
        },
    }


def _model_paths() -> Json:
    """What the handler answers."""
    answered = _json("The answer.", "Answer")
    evidence = {
        "description": "An mp4: the clip as sent, purified, and their difference, side by side; "
        "the answer is its `comment`.",
        "content": {"video/mp4": {}},
    }
    predict = _asks("predict", "The action in a video.", _one_video(), answered)
    versioned = _asks(
        "predict_version", "The same for one version of the model.", _one_video(), answered
    )
    explain = _asks("explain", "What purification changed, as a video.", _one_video(), evidence)
    v1 = _asks("predict_v1", "KServe's protocol v1.", _in_json("Instances"), _told("Predictions"))
    v2 = _asks(
        "infer",
        "The open inference protocol (v2), also with Triton's binary tensors.",
        _in_json("InferRequest", binary=True),
        _told("InferResponse", binary=True),
    )
    return {
        "/predictions/{model}": _path("inference", post=predict),
        "/predictions/{model}/{version}": _path("inference", "version", post=versioned),
        "/explanations/{model}": _path("inference", post=explain),
        "/v1/models/{model}:predict": _path("inference", post=v1),
        "/v2/models/{model}/infer": _path("inference", post=v2),
    }


def _server_paths() -> Json:
    """What TorchServe answers itself at the inference address."""
    asked = {
        "/ping": ("ping", "Whether the process is running; not readiness.", "Healthy"),
        "/v2": ("server_metadata", "The open inference protocol's metadata.", "ServerMetadata"),
        "/v2/health/live": ("live", "Whether the process is running.", "Live"),
        "/v2/health/ready": ("ready", "Like /ping; not readiness.", "Ready"),
    }
    return {
        path: {"servers": _servers("inference"), "get": _gets(name, summary, _told(schema))}
        for path, (name, summary, schema) in asked.items()
    }


def _management_paths() -> Json:
    described: Json = {
        "description": "The model's versions and their workers.",
        "content": {
            "application/json": {"schema": {"type": "array", "items": _ref("ModelDescription")}}
        },
    }
    describe = _gets("describe", "The model and its workers; ready: all READY.", described, 404)
    describe["parameters"] = [_query("customized", {"type": "boolean"})]
    scale = _gets("scale", "Change the number of workers.", _told("ServerStatus"), 404)
    scale["responses"]["202"] = _json("Started; with synchronous=false.", "ServerStatus")
    number: Json = {"type": "integer", "minimum": 0}
    scale["parameters"] = [
        _query("min_worker", number),
        _query("max_worker", number),
        _query("synchronous", {"type": "boolean"}),
    ]
    renew = _gets(
        "renew_key",
        "Make a new key, with the API key; it is in key_file.json, not in the answer.",
        {"description": "Renewed."},
    )
    kinds: Json = {"type": "string", "enum": ["inference", "management"]}
    renew["parameters"] = [{**_query("type", kinds), "required": True}]
    servers = _servers("management")
    return {
        "/models": {
            "servers": servers,
            "get": _gets("list_models", "The served models.", _told("ModelList")),
        },
        "/models/{model}": _path("management", get=describe, put=scale),
        "/token": {"servers": servers, "get": renew},
    }


def _metrics_path() -> Json:
    page: Json = {
        "description": "In Prometheus' text format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    get: Json = {
        "operationId": "metrics",
        "summary": "Counters, gauges and histograms.",
        "security": [],
        "responses": {"200": page},
    }
    return {"/metrics": {"servers": _servers("metrics"), "get": get}}


def _path(port: str, *more: str, **operations: Json) -> Json:
    names = ("model", *more)
    parameters: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    return {"servers": _servers(port), "parameters": parameters, **operations}


def _servers(port: str) -> list[Json]:
    return [{"url": f"http://127.0.0.1:{_PORTS[port]}", "description": f"the {port} address"}]


def _asks(name: str, summary: str, body: Json, answer: Json) -> Json:
    """An operation of the model."""
    return {
        "operationId": name,
        "summary": summary,
        "security": [{"key": []}, {"key": [], "operator": []}],
        "requestBody": {"required": True, "content": body},
        "responses": {"200": answer, **_errors(*_ERRORS)},
    }


def _gets(name: str, summary: str, answer: Json, *errors: int) -> Json:
    """An operation of TorchServe itself."""
    refused = _errors(400, *errors, by="server")
    return {"operationId": name, "summary": summary, "responses": {"200": answer, **refused}}


def _errors(*codes: int, by: str | None = None) -> Json:
    found: Json = {}
    for code in codes:
        description, says = _ERRORS[code]
        choices = [_ref(name) for name in _BY[by or says]]
        schema = choices[0] if len(choices) == 1 else {"anyOf": choices}
        found[str(code)] = {
            "description": description,
            "content": {"application/json": {"schema": schema}},
        }
    return found


def _one_video() -> Json:
    """A raw video, a form with options in fields, or JSON."""
    file: Json = {"type": "string", "contentMediaType": "video/*", "description": "the file"}
    fields = {
        "type": "object",
        "properties": {"video": file, **Options.model_json_schema()["properties"]},
        "required": ["video"],
        "additionalProperties": False,
    }
    return {
        "application/octet-stream": {},
        "video/*": {},
        "multipart/form-data": {"schema": fields},
        "application/json": {"schema": _ref("VideoInJson")},
    }


def _in_json(schema: str, *, binary: bool = False) -> Json:
    content: Json = {"application/json": {"schema": _ref(schema)}}
    return {**content, "application/octet-stream": {}} if binary else content


def _told(schema: str, *, binary: bool = False) -> Json:
    return {"description": schema, "content": _in_json(schema, binary=binary)}


def _json(description: str, schema: str) -> Json:
    return {"description": description, "content": _in_json(schema)}


def _query(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "schema": schema}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


if __name__ == "__main__":
    print(json.dumps(openapi(), indent=2))
