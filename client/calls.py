"""The calls of both clients: requests, and how their answers are read."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from videopure.client.connection import Connection, not_torchserve
from videopure.client.errors import (
    ClientError,
    KeyFileError,
    NotTorchServeError,
    ServerUnreachableError,
)
from videopure.client.evidence import Evidence
from videopure.client.status import MetricSample, ModelStatus, parse_metrics
from videopure.client.steps import Compute, Steps, Wait
from videopure.wire.operator import OPERATOR_HEADER, OPERATOR_KEY_FILE
from videopure.wire.options import RequestOptions
from videopure.wire.schemas import Answer

__all__ = ["Calls", "Video"]

_KEY_FILE = "key_file.json"
_POLL_SECONDS = 0.2

Video = str | Path | bytes


class Calls:
    """Where a server listens, and the steps of every call.

    Args:
        inference_url, management_url, metrics_url: where TorchServe listens.
        model: the model's name.
        key_file: the `key_file.json` that TorchServe writes into the folder it was started in;
            a missing file means that the server asks for no key.
        operator_key_file: the operator's key, which is sent with predictions: it lets them set
            every option and see everything. By default the file `operator_key` next to `key_file`,
            as `videopure serve` writes it; if it is missing, none is sent.
        timeout: seconds to wait for an answer.
        queue_wait: seconds to keep trying while the server's queue is full; such requests have
            not been computed.
        headers: sent with every request, such as the `Authorization` that your own proxy in front
            of the server asks for; it replaces TorchServe's key.
    """

    def __init__(
        self,
        inference_url: str = "http://127.0.0.1:8080",
        management_url: str = "http://127.0.0.1:8081",
        metrics_url: str = "http://127.0.0.1:8082",
        *,
        model: str = "videopure",
        key_file: str | Path = _KEY_FILE,
        operator_key_file: str | Path | None = None,
        timeout: float = 120.0,
        queue_wait: float = 0.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.inference_url = inference_url.rstrip("/")
        self.management_url = management_url.rstrip("/")
        self.metrics_url = metrics_url.rstrip("/")
        self.model = model
        self.key_file = Path(key_file)
        self.operator_key_file = Path(
            operator_key_file or self.key_file.with_name(OPERATOR_KEY_FILE)
        )
        self._connection = Connection(
            self.management_url, self.key_file, timeout, queue_wait, headers
        )
        self._open()

    def _open(self) -> None:
        """Make the runner of the steps; each client has its own."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inference_url!r}, model={self.model!r})"

    @property
    def _model_url(self) -> str:
        return f"{self.management_url}/models/{self.model}"

    def _predict(self, video: Video, options: RequestOptions) -> Steps[Answer]:
        url = f"{self.inference_url}/predictions/{self.model}"
        answer = yield from self._post(url, video, options)
        try:
            return Answer.model_validate_json(answer.content)
        except ValidationError as error:
            raise not_torchserve(answer) from error

    def _explain(self, video: Video, options: RequestOptions) -> Steps[Evidence]:
        url = f"{self.inference_url}/explanations/{self.model}"
        answer = yield from self._post(url, video, options)
        try:
            evidence: Evidence = yield Compute(partial(Evidence.parse, answer.content))
            return evidence
        except ValueError as error:
            raise not_torchserve(answer) from error

    def _status(self) -> Steps[ModelStatus]:
        body = yield from self._connection.json("GET", self._model_url, "management")
        try:
            return ModelStatus.parse(body[0])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise NotTorchServeError(f"{self._model_url} does not describe a model") from error

    def _describe(self) -> Steps[dict[str, Any]]:
        url = f"{self._model_url}?customized=true"
        body = yield from self._connection.json("GET", url, "management")
        try:
            told = body[0]["customizedMetadata"]
            return dict(json.loads(told) if isinstance(told, str) else told)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise NotTorchServeError(f"{url} does not describe a VideoPure model") from error

    def _scale(self, workers: int, maximum: int | None, timeout: float) -> Steps[None]:
        params = {"min_worker": workers, "max_worker": maximum or workers}
        yield from self._connection.send("PUT", self._model_url, "management", params=params)
        deadline = time.monotonic() + timeout
        while not (yield from self._has(workers)):
            yield from self._wait(deadline, timeout)

    def _ready(self) -> Steps[bool]:
        try:
            status = yield from self._status()
        except ClientError:
            return False  # not listening yet, or its key file is being written
        return status.ready

    def _wait_until_ready(self, timeout: float) -> Steps[None]:
        deadline = time.monotonic() + timeout
        while not (yield from self._ready()):
            yield from self._wait(deadline, timeout)

    def _metrics(self) -> Steps[list[MetricSample]]:
        url = f"{self.metrics_url}/metrics"
        answer = yield from self._connection.send("GET", url, None)
        try:
            return list(parse_metrics(answer.text))
        except ValueError as error:
            raise NotTorchServeError(f"{url} does not answer in Prometheus' format") from error

    def _has(self, workers: int) -> Steps[bool]:
        status = yield from self._status()
        return len(status.workers) == workers and all(worker.ready for worker in status.workers)

    def _wait(self, deadline: float, timeout: float) -> Steps[None]:
        if time.monotonic() > deadline:
            raise ServerUnreachableError(
                f"the workers of {self.model!r} at {self.management_url} were not ready after "
                f"{timeout:g} s"
            )
        yield Wait(_POLL_SECONDS)

    def _post(self, url: str, video: Video, options: RequestOptions) -> Steps[httpx.Response]:
        data = video if isinstance(video, bytes) else (yield Compute(Path(video).read_bytes))
        headers = self._operator()
        body: dict[str, Any] = {"content": data}
        if options:
            fields = {
                name: json.dumps(value) if isinstance(value, bool) else str(value)
                for name, value in options.items()
            }
            body = {"files": {"video": data}, "data": fields}
        else:
            headers |= {"Content-Type": "application/octet-stream"}
        answer = yield from self._connection.send("POST", url, "inference", headers, **body)
        return answer

    def _operator(self) -> dict[str, str]:
        try:
            key = self.operator_key_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise KeyFileError(
                f"the operator's key {self.operator_key_file} cannot be read: {error}"
            ) from error
        return {OPERATOR_HEADER: key}
