"""A JSON schema of what we use of KServe's resources, written by hand.

KServe's own schemas are on no package index that is light: this holds the fields of its API
reference (serving.kserve.io, v1alpha1 and v1beta1) that our files have, and refuses all others.
Pods' parts are checked by the schema of Kubernetes.
"""

from __future__ import annotations

from typing import Any

__all__ = ["INFERENCE_SERVICE", "SERVING_RUNTIME"]

_TEXT = {"type": "string", "minLength": 1}
_NUMBER = {"type": "integer", "minimum": 0}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _resource(api: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = _object(["name"], name=_TEXT, namespace=_TEXT)
    return _object(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": api},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


_FORMAT = _object(["name"], name=_TEXT, version=_TEXT, autoSelect={"type": "boolean"})
SERVING_RUNTIME = _resource(
    "serving.kserve.io/v1alpha1",
    "ServingRuntime",
    _object(
        ["supportedModelFormats", "containers"],
        annotations={"type": "object", "additionalProperties": _TEXT},
        supportedModelFormats={"type": "array", "items": _FORMAT, "minItems": 1},
        protocolVersions={
            "type": "array",
            "items": {"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]},
        },
        containers={"type": "array", "minItems": 1, "contains": {
            "properties": {"name": {"const": "kserve-container"}}
        }},
        volumes={"type": "array"},
    ),
)  # fmt: skip
INFERENCE_SERVICE = _resource(
    "serving.kserve.io/v1beta1",
    "InferenceService",
    _object(
        ["predictor"],
        predictor=_object(
            ["model"],
            minReplicas=_NUMBER,
            maxReplicas=_NUMBER,
            timeout=_NUMBER,
            model=_object(
                ["modelFormat"],
                modelFormat=_object(["name"], name=_TEXT, version=_TEXT),
                runtime=_TEXT,
                protocolVersion={"enum": ["v1", "v2"]},
                storageUri={"type": "string", "pattern": "^(pvc|s3|gs|https)://"},
            ),
        ),
    ),
)
