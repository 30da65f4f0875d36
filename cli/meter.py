"""Progress of a long purification: a bar with the time left, and an estimate at its start."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from videopure.cli.terminal import errors

if TYPE_CHECKING:
    from videopure.purifier import DefendedRecogniser

__all__ = ["WorkMeter"]

_WORTH_TELLING = 60  # seconds; shorter estimates are not shown
_BETWEEN_LINES = 10  # at least this many seconds between lines in a log


class WorkMeter:
    """Counts the diffusion model's calls, a dozen or so for each window of frames.

    A window of 720p takes minutes on a CPU: counting only windows would show nothing for long. The
    first call gives an estimate for all.

    Args:
        defended: the model whose calls are counted.
        window: frames purified together.
    """

    def __init__(self, defended: DefendedRecogniser, window: int) -> None:
        self._denoiser, self._window = defended.pipeline.denoiser, window
        self._calls_a_window = 2 * (defended.settings.inversion_steps + 1)  # up and down
        self._calls = self._windows = 0
        self._total: int | None = None  # windows
        self._begun = self._told = time.monotonic()
        columns = (TextColumn("Purifying"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=errors, transient=True)
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> WorkMeter:
        self._hook = self._denoiser.register_forward_hook(self._called)
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._hook.remove()

    def frames_done(self, done: int, total: int) -> None:
        """Called with the purified and all frames: first with none purified, then per window."""
        self._total = -(-total // self._window)
        if done == 0:
            self._begun = self._told = time.monotonic()
            errors.print(
                f"Purifying {total} frames in {self._total} windows of {self._window}; the first "
                "step tells how long it takes",
                highlight=False,
            )
        elif self._calls:
            self._windows += 1
            self._calls_a_window = max(1, self._calls // self._windows)
        if done and not errors.is_terminal:  # a log shows no bar
            errors.print(f"Purified {done} of {total} frames", highlight=False)
        self._show()

    def _called(self, *_: object) -> None:
        self._calls += 1
        if self._calls == 1 and self._total is not None:
            seconds = (time.monotonic() - self._begun) * self._total * self._calls_a_window
            if seconds > _WORTH_TELLING:
                errors.print(
                    f"{self._total} windows of {self._window} frames will take about "
                    f"{seconds / 60:.0f} minutes",
                    highlight=False,
                )
        self._tell_call()
        self._show()

    def _tell_call(self) -> None:
        """Print a line at intervals if no bar is shown."""
        if errors.is_terminal or self._total is None:
            return
        now, total = time.monotonic(), self._total * self._calls_a_window
        if now - self._told > _BETWEEN_LINES and self._calls < total:
            self._told = now
            left = (now - self._begun) / self._calls * (total - self._calls)
            errors.print(
                f"Step {self._calls} of {total}, about {left / 60:.1f} minutes left",
                highlight=False,
            )

    def _show(self) -> None:
        if self._total is not None:
            total = self._total * self._calls_a_window
            self._progress.update(self._task, completed=self._calls, total=total)
