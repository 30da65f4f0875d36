"""When the frames of a video start and how long it lasts, by the frames' own times."""

from __future__ import annotations

from fractions import Fraction

__all__ = ["Clock"]

# A gap this long is not a pause but another clock, in FFmpeg's view (`-dts_delta_threshold` for
# containers that may be joined, `-dts_error_threshold` for the others), in seconds.
_JUMP_WHERE_JOINABLE = 10
_JUMP = 30 * 3600
_DEFAULT_RATE = Fraction(25)
_DEFAULT_TICK = Fraction(1, 90_000)


class Clock:
    """Seconds from the first frame, whatever the stream's own clock does.

    Where two streams were joined, the clock restarts or jumps; some files have no times at all.
    Then a frame lasts as long as it says itself, or as the others do on average.

    Args:
        time_base: seconds per tick of the stream's clock; None if it has none.
        rate: frames per second by the header, for files without times.
        joinable: see `Container`.
    """

    def __init__(
        self, time_base: Fraction | None, rate: Fraction | None, *, joinable: bool
    ) -> None:
        tick = time_base or _DEFAULT_TICK
        self._tick = float(tick)
        self._fallback = float(1 / (rate or _DEFAULT_RATE) / tick)  # ticks per frame
        self._joinable = joinable
        self._jump = (_JUMP_WHERE_JOINABLE if joinable else _JUMP) / self._tick
        self._last: int | None = None  # start of the last frame by the stream's clock
        self._own = 0  # and its own duration
        self._now: float = 0  # ticks since the first frame
        self._gaps, self._in_gaps = 0, 0  # gaps between frames, and ticks in them
        self._told, self._true = 0, 0  # ticks that frames claim to last, and really last
        self.frames = 0

    def begin(self, ticks: int | None, duration: int | None) -> float:
        """Seconds at which the next frame starts; frames come in display order.

        Args:
            ticks: the frame's time by the stream's clock, if it has one.
            duration: the ticks it lasts, if it says so.
        """
        if self.frames:
            self._now += self._gap(ticks)
        self._last, self._own = ticks, max(0, duration or 0)
        self.frames += 1
        return self._now * self._tick

    @property
    def seconds(self) -> float:
        """How long the frames so far last, including the last one."""
        return (self._now + self._usual()) * self._tick if self.frames else 0.0

    def _gap(self, ticks: int | None) -> float:
        """Ticks from the last frame to the next one."""
        if ticks is None or self._last is None:
            return self._usual()
        gap = ticks - self._last
        if not 0 < gap <= self._jump:
            return self._usual()
        self._gaps, self._in_gaps = self._gaps + 1, self._in_gaps + gap
        if self._own:
            self._told, self._true = self._told + self._own, self._true + gap
        return gap

    def _usual(self) -> float:
        """Ticks that the last frame lasts if the next one does not tell."""
        if 0 < self._own <= self._jump:
            # Broadcast video often gives the duration of a field, which is half a frame.
            scaled = self._joinable and self._told
            return self._own * self._true / self._told if scaled else self._own
        return self._in_gaps / self._gaps if self._gaps else self._fallback
