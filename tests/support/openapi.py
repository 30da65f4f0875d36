"""Schemas of an OpenAPI document, ready for jsonschema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["operations", "schema_of"]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of everything that can be asked."""
    for path, item in document["paths"].items():
        for method in ("get", "post", "put", "delete", "patch"):
            if method in item:
                yield method, path, item[method]


def schema_of(
    document: dict[str, Any], method: str, path: str, media: str, status: int | None = None
) -> dict[str, Any]:
    """The schema of a request's body or, with `status`, of an answer's.

    Raises:
        KeyError: if the document does not tell of such a body.
    """
    operation = document["paths"][path][method]
    holder = operation["requestBody"] if status is None else operation["responses"][str(status)]
    schema: dict[str, Any] = holder["content"][media].get("schema", {})
    # References begin at the document's root.
    return {**schema, "components": document["components"]}
