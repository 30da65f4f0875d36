"""Clients that keep a server busy."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from videopure.client import ClientError
from videopure.launcher.server import TorchServe
from videopure.wire.schemas import Answer

__all__ = ["Load", "wait_for"]


class Load:
    """Threads that send one video again and again; a context manager that stops them.

    Args:
        server: to be asked.
        video: to be sent.
        threads: clients at a time.
    """

    def __init__(self, server: TorchServe, video: bytes, threads: int = 4) -> None:
        self.answers: list[Answer] = []
        self.errors: list[ClientError] = []
        self._server = server
        self._video = video
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait_for_more()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int = 8) -> None:
        """Wait until as many more requests were answered."""
        goal = len(self.answers) + count
        wait_for(lambda: len(self.answers) >= goal, "more answers")

    def _run(self) -> None:
        with self._server.client() as client:
            while not self._ended.is_set():
                try:
                    self.answers.append(client.predict(self._video))
                except ClientError as error:
                    self.errors.append(error)


def wait_for(state: object, what: str, seconds: float = 120) -> None:
    """Poll a callable until it answers something true; fail after `seconds`."""
    assert callable(state)
    deadline = time.monotonic() + seconds
    while not state():
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        time.sleep(0.05)
