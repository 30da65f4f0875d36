"""An open video: which of its streams is read, and its frames as a player shows them."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import av

from videopure.format.limits import Limits
from videopure.handler.errors import TooLargeError, UnusableVideoError
from videopure.handler.memory import is_out_of_memory
from videopure.handler.video.clock import Clock
from videopure.handler.video.codecs import decoders
from videopure.handler.video.containers import (
    Source,
    check_header,
    damaged,
    demuxers,
    encryption,
    joinable,
    refusal,
)
from videopure.handler.video.damage import Damage, announced_size
from videopure.handler.video.streams import choose_stream

__all__ = ["Budget", "OpenVideo", "Shown", "Survey", "open_video"]

_OPEN_OPTIONS = {
    "format_whitelist": demuxers(),
    "protocol_whitelist": "none",
    "codec_whitelist": decoders(),  # opening decodes a little if headers do not tell enough
}
# A frame may take two packets: interlaced H.264 has one for each field, and VP8 hidden frames.
_PACKETS_A_FRAME = 2


class Budget:
    """The limits of one video, and its deadline."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._deadline = time.monotonic() + limits.max_decode_seconds

    def check(self, what: str, value: float, limit: float) -> None:
        """Raise TooLargeError beyond a limit."""
        if value > limit:
            shown = f"{value:d}" if isinstance(value, int) else f"{value:g}"
            raise TooLargeError(f"the video has {shown} {what}, more than the {limit} allowed")

    def check_time(self) -> None:
        """Raise TooLargeError when the time is over."""
        if time.monotonic() > self._deadline:
            raise TooLargeError(
                f"decoding the video takes longer than the {self.limits.max_decode_seconds:g} s "
                "allowed"
            )


@dataclass(frozen=True)
class Survey:
    """What the packets tell before decoding, which may find something else.

    Args:
        begins: seconds at which each frame starts.
        seconds: how long all of them last.
        damage: what the file lacks.
        keyed: whether there is a key frame.
    """

    begins: list[float]
    seconds: float
    damage: Damage
    keyed: bool


class Shown(NamedTuple):
    """A frame (`av.VideoFrame`) and the second at which it starts."""

    frame: Any
    begins: float


@dataclass
class OpenVideo:
    """An open video, to be read once: by `survey` or by `frames`."""

    data: Source
    container: Any
    stream: Any
    budget: Budget
    warnings: list[str]
    damage: Damage = field(default_factory=Damage)
    seconds: float = 0.0  # duration of the frames that `frames` gave
    _broke_off: bool = False

    def __post_init__(self) -> None:
        self._kind: str = self.container.format.name
        self._joinable = joinable(self._kind)

    def survey(self) -> Survey:
        """Read the stream's packets without decoding them.

        Raises:
            TooLargeError, UnusableVideoError: saying why.
        """
        limits = self.budget.limits
        packets = 0
        first_key: int | None = None
        times: list[tuple[int | None, int | None]] = []
        for packet in self._packets():
            packets += 1
            self.budget.check("frames", packets // _PACKETS_A_FRAME, limits.max_frames)
            if self._is_cut(packet):
                self.damage.lacking += 1
            elif not packet.is_discard:
                if first_key is None and packet.is_keyframe:
                    first_key = len(times)
                times.append((self._ticks(packet), packet.duration))
        del times[: first_key or 0]  # packets before it cannot be decoded
        self.damage.whole = len(times)
        clock = self._clock()
        known = all(ticks is not None for ticks, _ in times)
        begins = [clock.begin(*each) for each in (sorted(times) if known else times)]
        self._find_lacking(packets, clock.seconds)
        if not times and not self.damage.lacking:
            raise encryption(self.data) or UnusableVideoError(
                "the video is empty: its video stream holds no frames"
            )
        # Headers may say nothing, or less than the frames' own times.
        self.budget.check("seconds", clock.seconds, limits.max_seconds)
        return Survey(begins, clock.seconds, self.damage, first_key is not None)

    def frames(self, survey: Survey) -> Iterator[Shown]:
        """Every frame that a decoder shows, in order; `damage` counts what cannot be decoded.

        Args:
            survey: survey of the same video.

        Raises:
            TooLargeError: beyond the limits.
        """
        limits, clock = self.budget.limits, self._clock()
        self.damage = replace(survey.damage)
        # The decoder itself refuses frames larger than the header admits.
        self.stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
        for frame in self._decoded(survey.keyed):
            self.budget.check("pixels a frame", frame.width * frame.height, limits.max_pixels)
            begins = clock.begin(self._ticks(frame), frame.duration)
            self.budget.check("frames", clock.frames, limits.max_frames)
            self.budget.check("seconds", begins, limits.max_seconds)
            self.seconds = clock.seconds
            yield Shown(frame, begins)

    def judge(self, frames: int) -> list[str]:
        """Warnings about a video, given the number of frames shown.

        Raises:
            UnusableVideoError: if too much is missing.
        """
        try:
            return [*self.warnings, *self.damage.warnings(frames)]
        except UnusableVideoError as error:
            # An encrypted file looks like a damaged one; a frame or two may decode by chance.
            raise encryption(self.data) or error from None

    def _decoded(self, has_key: bool) -> Iterator[Any]:
        """The decoder's frames; a packet that it refuses loses only that packet."""
        unsized = self.stream.codec_context.width == 0
        keyed = clean = False
        for packet in self._packets(flush=True):
            if packet is not None and self._is_cut(packet):
                continue
            keyed = keyed or packet is None or packet.is_keyframe
            if self._joinable and has_key and not keyed:
                continue  # it cannot be decoded; some decoders show grey smears anyway
            try:
                decoded = self.stream.codec_context.decode(packet)
            except av.error.FFmpegError as error:
                if is_out_of_memory(error):
                    raise
                if unsized and isinstance(error, av.error.ArgumentError):
                    self._refuse_size(error)
                self.damage.undecodable += keyed and not (packet and packet.is_discard)
                continue
            for frame in decoded:
                clean = clean or not frame.is_corrupt
                self.damage.imperfect += clean and frame.is_corrupt
                yield frame

    def _packets(self, *, flush: bool = False) -> Iterator[Any]:
        """The stream's non-empty packets, and None at the end for the decoder."""
        try:
            for packet in self.container.demux(self.stream):
                self.budget.check_time()
                # Empty ones mean "as before", or are PyAV's own last one.
                if packet.size > 0:
                    yield packet
        except av.error.FFmpegError as error:
            if is_out_of_memory(error):
                raise
            self._broke_off = True
        if flush:
            yield None

    def _is_cut(self, packet: Any) -> bool:
        """Whether the file ends within the packet. In a broadcast it only means a gap before."""
        return packet.is_corrupt and not self._joinable

    def _ticks(self, timed: Any) -> int | None:
        """The time of a packet or frame by the stream's clock."""
        # AVI has no other times than the order of decoding, which FFmpeg shows as `dts`.
        if self._kind == "avi" or timed.pts is None:
            return timed.dts
        return timed.pts

    def _clock(self) -> Clock:
        stream = self.stream
        return Clock(
            stream.time_base,
            stream.average_rate or stream.guessed_rate,
            joinable=self._joinable,
        )

    def _find_lacking(self, packets: int, seconds: float) -> None:
        """Count what the file announces but lacks: by its index, or by its length."""
        damage, whole = self.damage, self.damage.whole
        if self._kind.startswith("mov"):
            damage.lacking += max(0, len(self.stream.index_entries) - packets)
            return
        size, present = announced_size(self.data) or 0, len(self.data)
        fewer = self._kind == "ivf" and self.stream.frames > packets
        if not (self._broke_off or damage.lacking or size > present or fewer):
            return
        announced = self._announced_seconds()
        if whole == 0:
            lost = 1
        elif announced is not None:
            lost = round(whole * (announced - seconds) / seconds)
        elif size > present:
            lost = round(whole * (size - present) / present)
        else:
            damage.breaks_off = True
            return
        damage.lacking = max(damage.lacking, lost)

    def _announced_seconds(self) -> float | None:
        """The video's length by its header; the file's if the stream's is not given."""
        if self._kind in ("avi", "ivf") and self.stream.frames:
            # FFmpeg's duration covers what is present; these count in frames, including empty ones.
            return float(self.stream.frames * self.stream.time_base)
        if self.stream.duration is not None:
            return float(self.stream.duration * self.stream.time_base)
        duration = self.container.duration
        return None if duration is None else duration / av.time_base

    def _refuse_size(self, error: Exception) -> None:
        # The decoder refused the first frame also while opening, so the size is unknown.
        raise TooLargeError(
            f"the video has more pixels a frame than the {self.budget.limits.max_pixels} allowed"
        ) from error


@contextmanager
def open_video(data: Source, budget: Budget) -> Iterator[OpenVideo]:
    """Open a video; faults of the file become request errors.

    Nothing outside `data` is opened.

    Raises:
        NotAVideoError, UnusableVideoError, TooLargeError: saying why.
    """
    check_header(data)
    # Opening decodes a frame if the header does not describe it.
    options = {**_OPEN_OPTIONS, "max_pixels": str(budget.limits.max_pixels)}
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    file.seek(0)
    opened = False
    try:
        # Old cameras write titles in encodings other than UTF-8: `metadata_errors` reads them all.
        with av.open(file, mode="r", options=options, metadata_errors="replace") as container:
            opened = True
            stream, warnings = choose_stream(container)
            _check_size(stream, budget)
            yield OpenVideo(data, container, stream, budget, warnings)
    except av.error.FFmpegError as error:
        if is_out_of_memory(error):
            raise
        if opened:
            raise damaged(error.strerror) from error
        raise refusal(data, error.strerror) from error


def _check_size(stream: Any, budget: Budget) -> None:
    """Refuse a video that is too large by its header, before anything is decoded."""
    limits = budget.limits
    pixels = stream.codec_context.width * stream.codec_context.height
    budget.check("pixels a frame", pixels, limits.max_pixels)
    if stream.frames > _PACKETS_A_FRAME * limits.max_frames:
        budget.check("frames", stream.frames, limits.max_frames)
