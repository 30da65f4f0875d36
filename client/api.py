"""A client for a VideoPure model behind TorchServe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Unpack

from videopure.client.calls import Calls, Video
from videopure.client.connection import Purpose
from videopure.client.errors import ClientError
from videopure.client.evidence import Evidence
from videopure.client.status import MetricSample, ModelStatus, Worker
from videopure.client.steps import Runner
from videopure.wire.options import RequestOptions
from videopure.wire.schemas import Answer

__all__ = ["Evidence", "VideoPureClient"]


class VideoPureClient(Calls):
    """Asks a running server; keeps its connections open and renews its keys.

    May be shared by threads. Arguments are those of `Calls`; docs/serving.md has the table of
    options. `AsyncVideoPureClient` has the same methods as coroutines.
    """

    def _open(self) -> None:
        self._runner = Runner()

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
        self._runner.close()

    def predict(self, video: Video, **options: Unpack[RequestOptions]) -> Answer:
        """Name the action in a video.

        Args:
            video: a file, or its bytes.
            options: `top_k`, `inversion_steps`, `votes`, `seed`, `method`, `clips`, `purify`.

        Raises:
            RequestFailedError: with the server's status and message.
            ServerUnreachableError: if there is no server.
            OSError: if the file cannot be read.
        """
        return self._runner.run(self._predict(video, options))

    def predict_many(
        self, videos: Iterable[Video], *, concurrency: int = 4, **options: Unpack[RequestOptions]
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

    def explain(self, video: Video, **options: Unpack[RequestOptions]) -> Evidence:
        """A video that shows what purification changed, and the answer.

        Args and errors: as for `predict`.
        """
        return self._runner.run(self._explain(video, options))

    def status(self) -> ModelStatus:
        """TorchServe's status of the model and its workers."""
        return self._runner.run(self._status())

    def workers(self) -> tuple[Worker, ...]:
        """The model's workers."""
        return self.status().workers

    def describe(self) -> dict[str, Any]:
        """The model's description: recogniser, purifier, labels, options, limits, versions.

        A worker answers this, after the requests before it.
        """
        return self._runner.run(self._describe())

    def scale(self, workers: int, *, maximum: int | None = None, timeout: float = 300.0) -> None:
        """Change the number of workers, and wait until they are ready.

        Args:
            workers: the wanted number; with 0 the model cannot answer.
            maximum: upper limit for TorchServe; by default `workers`.
            timeout: seconds to wait for them.
        """
        self._runner.run(self._scale(workers, maximum, timeout))

    def ready(self) -> bool:
        """Whether the model has its workers and all of them can answer.

        (TorchServe's `/ping` says Healthy even while none can.)
        """
        return self._runner.run(self._ready())

    def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Wait until the model has its workers and all of them can answer.

        Raises:
            ServerUnreachableError: if that takes longer than `timeout` seconds.
        """
        self._runner.run(self._wait_until_ready(timeout))

    def metrics(self) -> list[MetricSample]:
        """The metrics of the server and of this model, from `/metrics`."""
        return self._runner.run(self._metrics())

    def renew_key(self, purpose: Purpose = "inference") -> str:
        """Have TorchServe make a new key for a purpose, such as for a proxy in front.

        The previous key is invalid from then on.

        Raises:
            KeyFileError: if there is no key file, or its keys cannot be renewed.
        """
        return self._runner.run(self._connection.renew(purpose))
