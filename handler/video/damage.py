"""How much of a video is missing: one rule for all containers and codecs."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from videopure.handler.errors import UnusableVideoError
from videopure.handler.video.containers import Source

__all__ = ["MOST_MISSING", "Damage", "announced_size"]

MOST_MISSING = 0.1  # share of the frames that may be missing

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MXF_HEADER = re.compile(
    rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02.\x00", re.DOTALL
)
_HEAD = 64 * 1024  # bytes to search for headers


@dataclass
class Damage:
    """What is missing from a video, counted in packets of its stream.

    Args:
        whole: complete packets in the file that are shown.
        lacking: packets that the file announces but does not hold completely.
        undecodable: complete packets that the decoder refused.
        imperfect: frames that the decoder itself calls damaged; they are used anyway.
        breaks_off: the file ends too early, and does not tell how much is missing.
    """

    whole: int = 0
    lacking: int = 0
    undecodable: int = 0
    imperfect: int = 0
    breaks_off: bool = False

    @property
    def share(self) -> float:
        """The share of frames that is missing, in 0..1."""
        return (self.lacking + self.undecodable) / max(1, self.whole + self.lacking)

    def warnings(self, frames: int) -> list[str]:
        """Warnings about a video of which `frames` frames could be decoded.

        Raises:
            UnusableVideoError: if more than `MOST_MISSING` is missing, or everything.
        """
        expected = self.whole + self.lacking
        if frames > 0 and self.share < 1:  # a frame need not be a packet
            expected = round(frames / (1 - self.share))
        if self.share > 0:
            expected = max(expected, frames + 1)
        if frames == 0 or self.share > MOST_MISSING:
            raise UnusableVideoError(
                f"the video is damaged or cut short: {frames} of {expected} frames could be "
                f"decoded, and {MOST_MISSING:.0%} may be missing"
            )
        told = []
        if self.share > 0:
            told.append(f"{expected - frames} of {expected} frames could not be decoded")
        if self.breaks_off:
            told.append("the file ends too early; it does not tell how much is missing")
        if self.imperfect:
            told.append(f"{self.imperfect} of {frames} frames are partly damaged")
        return told


def announced_size(data: Source) -> int | None:
    """The length in bytes that a file's own header states, if it does.

    Matroska, AVI, Flash video, Windows Media and MXF do; MP4's index tells more. Streams and
    unfinished recordings do not.
    """
    for at, mark, size_of in _SIZES:
        if data[at : at + len(mark)] == mark:
            try:
                return size_of(data)
            except (
                struct.error,
                IndexError,
                ValueError,
                OverflowError,
            ):  # a damaged header
                return None
    return None


def _riff(data: Source) -> int | None:
    (size,) = struct.unpack_from("<I", data, 4)
    return 8 + size if size else None


def _matroska(data: Source) -> int | None:
    """The end of the segment: RFC 8794, 9559."""
    length, at = _variable_int(data, 4)
    segment = at + (length or 0)
    if data[segment : segment + 4] != _SEGMENT:
        return None
    size, start = _variable_int(data, segment + 4)
    return None if size is None else start + size


def _variable_int(data: Source, at: int) -> tuple[int | None, int]:
    """An EBML length and where it ends; None if all its bits are set: unknown."""
    width = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
    return (None if value == (1 << 7 * width) - 1 else value), at + width


def _asf(data: Source) -> int | None:
    at = data[:_HEAD].index(_ASF_FILE_PROPERTIES)
    (size,) = struct.unpack_from("<Q", data, at + 40)
    return size or None


def _flv(data: Source) -> int | None:
    """`filesize` of onMetaData, a double: Adobe's FLV 10.1, E.5."""
    at = data[:_HEAD].index(b"\x08filesize\x00")
    (size,) = struct.unpack_from(">d", data, at + 10)
    return int(size) or None


def _mxf(data: Source) -> int | None:
    """The offset of the footer partition, which comes after all frames: SMPTE 377."""
    found = _MXF_HEADER.search(data[:_HEAD])
    if found is None:
        return None
    length = data[found.end()]  # of the value's length, which is BER: SMPTE 336
    at = found.end() + 1 + (length & 0x7F if length & 0x80 else 0)
    (footer,) = struct.unpack_from(">Q", data, at + 24)
    return footer or None


_SIZES: tuple[tuple[int, bytes, Callable[[Source], int | None]], ...] = (
    (8, b"AVI ", _riff),
    (0, _EBML, _matroska),
    (0, b"FLV\x01", _flv),
    (0, b"\x30\x26\xb2\x75", _asf),
    (0, b"\x06\x0e\x2b\x34", _mxf),
)
