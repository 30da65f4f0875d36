"""The client for asyncio programs: the same calls as coroutines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from types import TracebackType
from typing import Any, Unpack

from videopure.client.calls import Calls, Video
from videopure.client.connection import Purpose
from videopure.client.errors import ClientError
from videopure.client.evidence import Evidence
from videopure.client.status import MetricSample, ModelStatus, Worker
from videopure.client.steps import AsyncRunner
from videopure.wire.options import RequestOptions
from videopure.wire.schemas import Answer

__all__ = ["AsyncVideoPureClient"]


class AsyncVideoPureClient(Calls):
    """`VideoPureClient` as coroutines, for one event loop; arguments are those of `Calls`.

    See there for what its methods do, take and raise.
    """

    def _open(self) -> None:
        self._runner = AsyncRunner()

    async def __aenter__(self) -> AsyncVideoPureClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._runner.close()

    async def predict(self, video: Video, **options: Unpack[RequestOptions]) -> Answer:
        """Name the action in a video."""
        return await self._runner.run(self._predict(video, options))

    async def predict_many(
        self, videos: Iterable[Video], *, concurrency: int = 4, **options: Unpack[RequestOptions]
    ) -> AsyncGenerator[Answer | ClientError | OSError, None]:
        """Answers or errors in the order of the videos, asked `concurrency` at a time."""
        free = asyncio.Semaphore(concurrency)

        async def ask(video: Video) -> Answer | ClientError | OSError:
            async with free:
                try:
                    return await self.predict(video, **options)
                except (ClientError, OSError) as error:
                    return error

        asked: deque[asyncio.Task[Answer | ClientError | OSError]] = deque()
        try:
            for video in videos:
                asked.append(asyncio.create_task(ask(video)))
                # Some more than are sent, so that a slow one at the head does not delay others.
                if len(asked) >= 4 * concurrency:
                    yield await asked.popleft()
            while asked:
                yield await asked.popleft()
        finally:
            for task in asked:
                task.cancel()

    async def explain(self, video: Video, **options: Unpack[RequestOptions]) -> Evidence:
        """A video that shows what purification changed, and the answer."""
        return await self._runner.run(self._explain(video, options))

    async def status(self) -> ModelStatus:
        """TorchServe's status of the model and its workers."""
        return await self._runner.run(self._status())

    async def workers(self) -> tuple[Worker, ...]:
        """The model's workers."""
        return (await self.status()).workers

    async def describe(self) -> dict[str, Any]:
        """The model's description: recogniser, purifier, labels, options, limits, versions."""
        return await self._runner.run(self._describe())

    async def scale(
        self, workers: int, *, maximum: int | None = None, timeout: float = 300.0
    ) -> None:
        """Change the number of workers, and wait until they are ready."""
        await self._runner.run(self._scale(workers, maximum, timeout))

    async def ready(self) -> bool:
        """Whether the model has its workers and all of them can answer."""
        return await self._runner.run(self._ready())

    async def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Wait until the model has its workers and all of them can answer."""
        await self._runner.run(self._wait_until_ready(timeout))

    async def metrics(self) -> list[MetricSample]:
        """The metrics of the server and of this model, from `/metrics`."""
        return await self._runner.run(self._metrics())

    async def renew_key(self, purpose: Purpose = "inference") -> str:
        """Have TorchServe make a new key for a purpose; the previous one becomes invalid."""
        return await self._runner.run(self._connection.renew(purpose))
