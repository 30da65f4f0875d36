"""The steps of a client's call, for blocking and for asynchronous callers.

A call is a generator: it yields the next step, is sent the result, and returns the answer. So the
calls are written once, and `Runner` and `AsyncRunner` differ only in how they wait.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

__all__ = ["Alone", "AsyncRunner", "Compute", "Runner", "Send", "Steps", "Wait"]

T = TypeVar("T")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CONNECT_SECONDS = 5.0
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=32)


@dataclass(frozen=True)
class Send:
    """Send a request; the result is an `httpx.Response`, read to its end.

    Args:
        timeout: seconds to wait for the answer.
        body: `content`, `data`, `files` or `params`, as in `httpx`.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    timeout: float
    body: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Of `httpx.Client.request`."""
        connect = min(_CONNECT_SECONDS, self.timeout)
        return {
            "method": self.method,
            "url": self.url,
            "headers": dict(self.headers),
            "timeout": httpx.Timeout(self.timeout, connect=connect),
            # TorchServe sends no redirects; following one would send keys and videos elsewhere.
            "follow_redirects": False,
            **self.body,
        }

    @property
    def is_local(self) -> bool:
        """Whether the request is to this machine, without the environment's proxy."""
        return urlsplit(self.url).hostname in _LOOPBACK


@dataclass(frozen=True)
class Wait:
    """Wait; the result is None."""

    seconds: float


@dataclass(frozen=True)
class Compute:
    """Call a function that takes a while, such as one that reads a file."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Alone:
    """Run these steps exclusively of other calls; returns their result."""

    steps: Generator[Any, Any, Any]


Steps = Generator[Send | Wait | Compute | Alone, Any, T]


class Runner:
    """Runs calls in the caller's thread; may be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._sessions: dict[bool, httpx.Client] = {}

    def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            session.close()

    def run(self, steps: Steps[T]) -> T:
        """Return what the steps return; raise what they raise."""
        act = partial(steps.send, None)
        while True:
            try:
                step = act()
            except StopIteration as done:
                return done.value
            try:
                result = self._do(step)
            except Exception as error:
                act = partial(steps.throw, error)
            else:
                act = partial(steps.send, result)

    def _do(self, step: Send | Wait | Compute | Alone) -> Any:
        match step:
            case Send():
                return self._session(step.is_local).request(**step.arguments())
            case Wait():
                return time.sleep(step.seconds)
            case Compute():
                return step.function()
            case Alone():
                with self._lock:
                    return self.run(step.steps)

    def _session(self, local: bool) -> httpx.Client:
        with self._opening:
            if local not in self._sessions:
                direct = httpx.HTTPTransport(limits=_LIMITS) if local else None
                self._sessions[local] = httpx.Client(transport=direct, **_settings())
            return self._sessions[local]


class AsyncRunner:
    """Runs calls as coroutines of one asyncio event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._sessions: dict[bool, httpx.AsyncClient] = {}

    async def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            await session.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """Return what the steps return; raise what they raise."""
        act = partial(steps.send, None)
        while True:
            try:
                step = act()
            except StopIteration as done:
                return done.value
            try:
                result = await self._do(step)
            except Exception as error:
                act = partial(steps.throw, error)
            else:
                act = partial(steps.send, result)

    async def _do(self, step: Send | Wait | Compute | Alone) -> Any:
        match step:
            case Send():
                return await self._session(step.is_local).request(**step.arguments())
            case Wait():
                return await asyncio.sleep(step.seconds)
            case Compute():
                return await asyncio.to_thread(step.function)
            case Alone():
                async with self._lock:
                    return await self.run(step.steps)

    def _session(self, local: bool) -> httpx.AsyncClient:
        if local not in self._sessions:
            direct = httpx.AsyncHTTPTransport(limits=_LIMITS) if local else None
            self._sessions[local] = httpx.AsyncClient(transport=direct, **_settings())
        return self._sessions[local]


def _settings() -> dict[str, Any]:
    """Arguments of every `httpx` client; each is made when needed, because that takes a moment."""
    # With only our own authentication: one in an address would replace the key.
    return {"limits": _LIMITS, "auth": lambda request: request}
