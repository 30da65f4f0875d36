"""The columns of the answers: those of the published answer, plus path and error."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

from videopure.wire.schemas import Answer, ErrorAnswer

__all__ = ["SCHEMA", "as_table", "read_row"]

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a field of the schemas."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):  # with None: every column may be null
        return _arrow_type(next(each for each in inner if each is not type(None)))
    if origin is Literal:
        return pa.string()
    if origin is list:
        return pa.list_(_arrow_type(inner[0]))
    if origin is dict:
        return pa.map_(*map(_arrow_type, inner))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return pa.struct(_fields(annotation))
    raise TypeError(f"no column can hold {annotation!r}")


def _fields(model: type[BaseModel]) -> list[pa.Field]:
    return [pa.field(n, _arrow_type(f.annotation)) for n, f in model.model_fields.items()]


# `copy` is the file of the purified copy, within the folder of the answers.
SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("bytes", pa.int64()),
        *_fields(Answer),
        pa.field("copy", pa.string()),
        pa.field("error", _arrow_type(ErrorAnswer)),
    ]
)


def as_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of `SCHEMA`; missing values are null.

    Args:
        rows: `path`, `bytes` and `copy`, and either `answer` or `error`: a JSON body.
    """
    flat = []
    for row in rows:
        answer = dict(row.get("answer") or {})
        if "timing_ms" in answer:
            answer["timing_ms"] = list(answer["timing_ms"].items())
        plain = {key: value for key, value in row.items() if key != "answer"}
        flat.append({**answer, **plain})
    return pa.Table.from_pylist(flat, schema=SCHEMA)


def read_row(row: Mapping[str, Any]) -> Answer | ErrorAnswer:
    """The answer or the error in a row of a table (`Table.to_pylist`)."""
    if row["error"] is not None:
        return ErrorAnswer.model_validate(row["error"])
    told = {name: row[name] for name in Answer.model_fields}
    return Answer.model_validate({**told, "timing_ms": dict(row["timing_ms"])})
