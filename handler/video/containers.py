"""Which files are read as videos, and the errors for those that are not.

`CONTAINERS` is the one list: the reader opens only these, and docs/videos.md shows it.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass

from videopure.handler.errors import NotAVideoError, RequestError, UnusableVideoError

__all__ = [
    "CONTAINERS",
    "Container",
    "Source",
    "check_header",
    "damaged",
    "demuxers",
    "encryption",
    "joinable",
    "refusal",
]

# The bytes of a file, in memory or mapped.
Source = bytes | mmap.mmap


@dataclass(frozen=True)
class Container:
    """A kind of file.

    Args:
        name: its common name.
        demuxers: FFmpeg's names for it, all of the same demuxer.
        endings: endings of its file names.
        joinable: made for broadcast: it may start anywhere and be joined to another, so its first
            packets may be undecodable and its clock may jump.
    """

    name: str
    demuxers: str
    endings: str
    joinable: bool = False


# Self-contained ones only: playlist formats (HLS, DASH, concat, image sequences) would let a
# request make the server open other files and addresses.
CONTAINERS = (
    Container("MP4, QuickTime, 3GP, AVIF", "mov,mp4,m4a,3gp,3g2,mj2", ".mp4 .m4v .mov .3gp .avif"),
    Container("Matroska, WebM", "matroska,webm", ".mkv .webm"),
    Container("AVI", "avi", ".avi"),
    Container("MPEG transport stream", "mpegts", ".ts .mts .m2ts", joinable=True),
    Container("MPEG program stream, DVD", "mpeg", ".mpg .vob", joinable=True),
    Container("Flash video", "flv", ".flv"),
    Container("Windows Media", "asf", ".wmv .asf"),
    Container("Ogg", "ogg", ".ogv"),
    Container("MXF", "mxf", ".mxf"),
    Container("DV", "dv", ".dv", joinable=True),
    Container("RealMedia", "rm", ".rm .rmvb"),
    Container("NUT", "nut", ".nut"),
    Container("IVF", "ivf", ".ivf"),
    Container("GIF", "gif", ".gif"),
    Container("Animated PNG", "apng", ".apng .png"),
    Container("YUV4MPEG", "yuv4mpegpipe", ".y4m"),
    Container("Motion JPEG, no container", "mjpeg", ".mjpeg", joinable=True),
    Container("MPEG-1, MPEG-2, no container", "mpegvideo", ".m1v .m2v", joinable=True),
    Container("MPEG-4 part 2, no container", "m4v", ".m4v", joinable=True),
    Container("H.264, no container", "h264", ".h264", joinable=True),
    Container("H.265, no container", "hevc", ".h265", joinable=True),
    Container("AV1, no container", "obu", ".obu", joinable=True),
)

# (offset, bytes) that mark a video file; if it cannot be opened, it is damaged.
_SIGNATURES = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (0, b"\x1a\x45\xdf\xa3"),
    (8, b"AVI "),
    (0, b"GIF8"),
    (0, b"FLV\x01"),
    (0, b"OggS"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"\x30\x26\xb2\x75"),
    (0, b".RMF"),
    (0, b"YUV4MPEG2"),
    (0, b"DKIF"),
)
# (offset, bytes, description) of files that people send instead of a video.
_OTHERS = (
    (8, b"WAVE", "a WAV file, which is sound alone"),
    (8, b"WEBP", "a WebP picture; animated ones are not read either"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89PNG", "a PNG picture that is not animated"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"ID3", "an MP3 file, which is sound alone"),
    (0, b"\xff\xfb", "an MP3 file, which is sound alone"),
    (0, b"fLaC", "a FLAC file, which is sound alone"),
    (0, b"PK\3\4", "a ZIP archive: unpack it"),
    (0, b"\x1f\x8b", "compressed by gzip: unpack it, or send Content-Encoding: gzip"),
    (0, b"%PDF", "a PDF document"),
    (0, b"#EXTM3U", "a playlist, which names files but holds none"),
    (0, b"ffconcat", "a playlist, which names files but holds none"),
    (0, b"<", "HTML or XML"),
)
# Marks of encrypted files only: a protected sample entry, WebM's encoding "encryption", the
# object that Windows Media's protection adds.
_ENCRYPTED = re.compile(
    rb"stsd.{12}encv|\x50\x33\x81\x01|\xfb\xb3\x11\x22\x23\xbd\xd2\x11\xb4\xb7\x00\xa0\xc9\x55\xfc\x6e",
    re.DOTALL,
)
# QuickTime's compressed movie header, long obsolete, may unpack to gigabytes.
# The size of a box is before its name, or in 64 bits after it.
_PACKED_HEADER = re.compile(rb"cmov(?:.{8})?.{4}dcom", re.DOTALL)


def demuxers() -> str:
    """FFmpeg's `format_whitelist` of all containers."""
    return ",".join(container.demuxers for container in CONTAINERS)


def joinable(demuxer: str) -> bool:
    """Whether a container with this FFmpeg name may start anywhere and be joined to others."""
    return any(demuxer == kind.demuxers and kind.joinable for kind in CONTAINERS)


def check_header(data: Source) -> None:
    """Raise NotAVideoError for files that must not reach FFmpeg."""
    if _PACKED_HEADER.search(data):
        raise NotAVideoError("the file is a QuickTime movie with a compressed header")


def refusal(data: Source, reason: str) -> RequestError:
    """Why a file that FFmpeg cannot open is refused: what it is, and what to send instead.

    Args:
        data: the file.
        reason: FFmpeg's message.
    """
    if _marked(data, _SIGNATURES):
        return encryption(data) or damaged(reason)
    for at, mark, what in _OTHERS:
        if data[at : at + len(mark)] == mark:
            return NotAVideoError(f"the {len(data)} bytes sent are {what}: send a video")
    return NotAVideoError(
        f"the {len(data)} bytes sent are not a video of a supported container "
        "(mp4, mov, webm, mkv, avi, gif, mpeg, flv, ogg, ...)"
    )


def damaged(reason: str) -> UnusableVideoError:
    """The error for a file that FFmpeg gives up on; `reason` is its message."""
    return UnusableVideoError(f"the video is damaged or cut short and cannot be decoded ({reason})")


def encryption(data: Source) -> RequestError | None:
    """The error for an encrypted file, which looks like a damaged one; None for others."""
    if not _ENCRYPTED.search(data):
        return None
    return UnusableVideoError("the video is encrypted (DRM): send it without encryption")


def _marked(data: Source, marks: tuple[tuple[int, bytes], ...]) -> bool:
    return any(data[at : at + len(mark)] == mark for at, mark in marks)
