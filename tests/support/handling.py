"""The handler of a worker, asked as TorchServe asks it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from zipfile import ZipFile

from tests.support import workers
from tests.support.fuzzing import KEY, Sent
from videopure.archive.configure import configure_archive
from videopure.handler.torchserve import TorchServeHandler
from videopure.wire.operator import KEY_FILE_VARIABLE
from videopure.wire.schemas import Answer, ErrorAnswer

__all__ = ["STATUSES", "Told", "ask", "check", "handler_of"]

# What a request may be answered with. Beside the client's own faults: no time left for it, or no
# memory. 500 is a fault of ours.
STATUSES = (200, 400, 403, 413, 415, 422, 503, 507)
_MOST_BYTES = 6_553_500  # TorchServe's default for an answer, beyond which it kills the worker


@dataclass(frozen=True)
class Told:
    """An answer: status, type and content, and the seconds that its batch took."""

    status: int
    kind: str
    content: str | bytes
    seconds: float

    @property
    def message(self) -> str:
        """Of an error."""
        return str(json.loads(self.content)["message"])


class Context:
    """TorchServe's context of a batch."""

    def __init__(self, sent: Sequence[Sent]) -> None:
        self.headers = [one.seen_headers() for one in sent]
        self.statuses: dict[int, int] = {}
        self.kinds: dict[int, str] = {}
        self.metrics = SimpleNamespace(add_metric=lambda *args, **kwargs: None)

    def get_request_header(self, index: int, name: str) -> str | None:
        return self.headers[index].get(name)

    def get_all_request_header(self, index: int) -> dict[str, str]:
        return dict(self.headers[index])

    def get_request_id(self, index: int) -> str:
        return f"id{index}"

    def set_response_status(self, code: int, phrase: str, index: int) -> None:
        assert phrase.isascii()
        self.statuses[index] = code

    def set_response_content_type(self, index: int, kind: str) -> None:
        self.kinds[index] = kind

    def set_response_header(self, index: int, name: str, value: str) -> None:
        assert isinstance(value, str)  # anything else kills the worker


@contextmanager
def handler_of(archive: Path, folder: Path, settings: dict[str, Any]) -> Iterator[Any]:
    """A worker's handler, with the operator's key that `fuzzing` knows.

    Args:
        archive: to serve.
        folder: an empty one, to unpack it in.
        settings: keys of model-config.yaml that are changed.
    """
    ZipFile(archive).extractall(folder / "model")
    configure_archive(folder / "model", settings)
    key = folder / "operator_key"
    key.write_text(KEY)
    with mock.patch.dict("os.environ", {KEY_FILE_VARIABLE: str(key)}):
        handler = workers.start(folder / "model")
    try:
        # The samples are taken; to hand them over is TorchServe's own code.
        with mock.patch("videopure.handler.torchserve.emit", lambda samples, _: [*samples]):
            yield handler
    finally:
        if handler.decoder is not None:
            handler.decoder.close()


def ask(handler: TorchServeHandler, *sent: Sent) -> list[Told]:
    """The answers to a batch."""
    context = Context(sent)
    start = time.perf_counter()
    contents = handler.handle([one.row() for one in sent], context)
    seconds = time.perf_counter() - start
    assert len(contents) == len(sent)
    return [
        Told(context.statuses[index], context.kinds[index], content, seconds)
        for index, content in enumerate(contents)
    ]


def check(told: Told) -> None:
    """Raise AssertionError for an answer that is not documented."""
    assert told.status in STATUSES, told.content[:500]
    assert len(told.content) < _MOST_BYTES
    if told.kind != "application/json":
        assert told.status == 200
        return
    body = json.loads(told.content, parse_constant=_refuse)
    if told.status != 200:
        assert len(ErrorAnswer.model_validate(body).message) <= 4000
        return
    for answer in _answers(body):
        Answer.model_validate(answer)


def _answers(body: dict[str, Any]) -> list[Any]:
    """Of any of the protocols."""
    if "outputs" in body:
        return [json.loads(text) for text in body["outputs"][0]["data"]]
    found: list[Any] = body.get("predictions", []) if "request_id" not in body else [body]
    return found


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
