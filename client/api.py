"""A client for a VideoPure model behind TorchServe."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from pydantic import ValidationError

from videopure.client.connection import Connection, not_torchserve
from videopure.client.errors import (
    ClientError,
    KeyFileError,
    NotTorchServeError,
    ServerUnreachableError,
)
from videopure.client.status import MetricSample, ModelStatus, Worker, parse_metrics
from videopure.wire.operator import OPERATOR_HEADER, OPERATOR_KEY_FILE
from videopure.wire.schemas import Answer

__all__ = ["Evidence", "VideoPureClient"]

_KEY_FILE = "key_file.json"
_POLL_SECONDS = 0.2

Video = str | Path | bytes


@dataclass(frozen=True)
class Evidence:
    """What purification changed.

    Args:
        video: an mp4: the clip as sent, purified, and their difference amplified, side by side.
        answer: as of a prediction.
    """

    video: bytes = field(repr=False)
    answer: Answer

    @classmethod
    def parse(cls, video: bytes) -> Evidence:
        """From the file, which holds the answer as its `comment`; ValueError where it does not."""
        import av  # FFmpeg: wanted by those who ask for evidence alone
        import av.error

        try:
            # Others, such as playlists, would open files and addresses that they name.
            options = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2", "protocol_whitelist": "none"}
            with av.open(io.BytesIO(video), mode="r", options=options) as container:
                comment = container.metadata.get("comment", "")
        except av.error.FFmpegError as error:
            raise ValueError(f"the evidence cannot be opened: {error}") from error
        return cls(video, Answer.model_validate_json(comment))


class VideoPureClient:
    """Asks a running server; keeps its connections open and renews its keys.

    May be shared by threads. Options of requests are those of the table in docs/serving.md.

    Args:
        inference_url, management_url, metrics_url: where TorchServe listens.
        model: the model's name.
        key_file: the `key_file.json` that TorchServe writes into the folder it was started in;
            a missing file means that the server asks for no key.
        operator_key_file: the operator's key, which predictions are asked with: it lets them set
            every option and be told everything. By default the file `operator_key` beside
            `key_file`, as `videopure serve` writes it; where it is missing, none is sent.
        timeout: seconds to wait for an answer.
        queue_wait: seconds to go on trying while the server's queue is full; such requests have
            not been computed.
        headers: sent with every request, such as the `Authorization` that your own proxy in front
            of the server asks for; it takes the place of TorchServe's key.
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

    def __repr__(self) -> str:
        return f"VideoPureClient({self.inference_url!r}, model={self.model!r})"

    def __enter__(self) -> VideoPureClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def predict(self, video: Video, **options: Any) -> Answer:
        """What a video shows.

        Args:
            video: a file, or its bytes.
            options: `top_k`, `inversion_steps`, `votes`, `seed`, `method`, `clips`, `purify`.

        Raises:
            RequestFailedError: with the server's status and message.
            ServerUnreachableError: if there is no server.
            OSError: if the file cannot be read.
        """
        answer = self._post(f"{self.inference_url}/predictions/{self.model}", video, options)
        try:
            return Answer.model_validate_json(answer.content)
        except ValidationError as error:
            raise not_torchserve(answer) from error

    def predict_many(
        self, videos: Iterable[Video], *, concurrency: int = 4, **options: Any
    ) -> Iterator[Answer | ClientError | OSError]:
        """Answers or errors in the order of the videos, asked `concurrency` at a time.

        Several at a time let the server's workers fill their batches.
        """

        def ask(video: Video) -> Answer | ClientError | OSError:
            try:
                return self.predict(video, **options)
            except (ClientError, OSError) as error:
                return error

        with ThreadPoolExecutor(concurrency) as pool:
            yield from pool.map(ask, videos)

    def explain(self, video: Video, **options: Any) -> Evidence:
        """A video that shows what purification changed, and the answer.

        Args and errors: as of `predict`.
        """
        answer = self._post(f"{self.inference_url}/explanations/{self.model}", video, options)
        try:
            return Evidence.parse(answer.content)
        except ValueError as error:
            raise not_torchserve(answer) from error

    def status(self) -> ModelStatus:
        """What TorchServe says of the model and its workers."""
        body = self._connection.json("GET", self._model_url, "management")
        try:
            return ModelStatus.parse(body[0])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise NotTorchServeError(f"{self._model_url} does not describe a model") from error

    def workers(self) -> tuple[Worker, ...]:
        """The model's workers."""
        return self.status().workers

    def describe(self) -> dict[str, Any]:
        """The model's own words: recogniser, purifier, labels, options, limits, versions.

        A worker is asked, so that this waits for the requests before it.
        """
        url = f"{self._model_url}?customized=true"
        body = self._connection.json("GET", url, "management")
        try:
            told = body[0]["customizedMetadata"]
            return dict(json.loads(told) if isinstance(told, str) else told)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise NotTorchServeError(f"{url} does not describe a VideoPure model") from error

    def scale(self, workers: int, *, maximum: int | None = None, timeout: float = 300.0) -> None:
        """Change the number of workers, and wait until they are ready.

        Args:
            workers: as many as there shall be; 0 leaves the model without an answer.
            maximum: TorchServe may go up to here; by default `workers`.
            timeout: seconds to wait for them.
        """
        params = {"min_worker": workers, "max_worker": maximum or workers}
        self._connection.send("PUT", self._model_url, "management", params=params)
        deadline = time.monotonic() + timeout
        while not self._has(workers):
            self._check_deadline(deadline, timeout)

    def ready(self) -> bool:
        """Whether the model has its workers and all of them can answer.

        (TorchServe's `/ping` says Healthy even while none can.)
        """
        try:
            return self.status().ready
        except ClientError:
            return False  # not listening yet, or its key file is being written

    def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Wait until the model has its workers and all of them can answer.

        Raises:
            ServerUnreachableError: if that takes longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self.ready():
            self._check_deadline(deadline, timeout)

    def metrics(self) -> list[MetricSample]:
        """What `/metrics` counts, of the server and of this model."""
        url = f"{self.metrics_url}/metrics"
        answer = self._connection.send("GET", url, None)
        try:
            return list(parse_metrics(answer.text))
        except ValueError as error:
            raise NotTorchServeError(f"{url} does not answer in Prometheus' format") from error

    @property
    def _model_url(self) -> str:
        return f"{self.management_url}/models/{self.model}"

    def _has(self, workers: int) -> bool:
        status = self.status()
        return len(status.workers) == workers and all(worker.ready for worker in status.workers)

    def _check_deadline(self, deadline: float, timeout: float) -> None:
        if time.monotonic() > deadline:
            raise ServerUnreachableError(
                f"the workers of {self.model!r} at {self.management_url} were not ready after "
                f"{timeout:g} s"
            )
        time.sleep(_POLL_SECONDS)

    def _post(self, url: str, video: Video, options: dict[str, Any]) -> requests.Response:
        data = video if isinstance(video, bytes) else Path(video).read_bytes()
        headers = self._operator()
        if not options:
            headers |= {"Content-Type": "application/octet-stream"}
            return self._connection.send("POST", url, "inference", data=data, headers=headers)
        fields = {n: json.dumps(v) if isinstance(v, bool) else v for n, v in options.items()}
        return self._connection.send(
            "POST", url, "inference", files={"video": data}, data=fields, headers=headers
        )

    def _operator(self) -> dict[str, str]:
        try:
            key = self.operator_key_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise KeyFileError(
                f"the operator's key {self.operator_key_file} cannot be read: {error}"
            ) from error
        return {OPERATOR_HEADER: key}
