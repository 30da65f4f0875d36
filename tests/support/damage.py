"""Damaged video files, made by a program: the same ones for the same seed."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from tests.support.h264_fields import field_pictures
from tests.support.numbered import mux, numbered_frames
from tests.support.videos import encode, frames

__all__ = [
    "DAMAGES",
    "box",
    "damaged_files",
    "endless_index",
    "inflated_header",
    "lying_pictures",
    "referring_movie",
    "resized_gif",
    "sound_only",
    "whole_files",
]

_FLIPS = (1, 4, 16, 64, 256)


@functools.cache
def whole_files() -> dict[str, bytes]:
    """Undamaged files of all containers that are read, and many codecs, by name."""
    pixels = frames(12, 32, 48)
    return {
        "mp4": encode(pixels),
        "mp4-faststart": encode(pixels, movflags="faststart"),
        "mp4-fragmented": encode(pixels, movflags="frag_keyframe+empty_moov"),
        "mp4-av1": encode(pixels, "mp4", "libsvtav1"),
        "avif": encode(pixels, "avif", "libsvtav1"),
        "mov": encode(pixels, "mov", "mpeg4"),
        "mov-prores": encode(pixels, "mov", "prores_ks", "yuv422p10le"),
        "avi": encode(pixels, "avi", "mpeg4"),
        "avi-mjpeg": encode(pixels, "avi", "mjpeg", "yuvj420p"),
        "webm": encode(pixels, "webm", "libvpx-vp9"),
        "webm-vp8": encode(pixels, "webm", "libvpx"),
        "mkv": encode(pixels, "matroska", "libx264"),
        "mkv-ffv1": encode(pixels, "matroska", "ffv1", "bgr0"),
        "gif": encode(pixels, "gif", "gif", "rgb8"),
        "apng": encode(pixels, "apng", "apng", "rgb24"),
        "ts": encode(pixels, "mpegts", "mpeg2video", fps=25),
        "ts-h264": encode(pixels, "mpegts", "libx264", fps=25),
        "ts-fields": mux(field_pictures(numbered_frames(12)), "mpegts", "libx264", fps=50),
        "mpg": encode(pixels, "mpeg", "mpeg2video", fps=25),
        "flv": encode(pixels, "flv", "flv1"),
        "wmv": encode(pixels, "asf", "wmv2"),
        "ogv": encode(pixels, "ogg", "libvpx"),
        "mxf": encode(pixels, "mxf", "mpeg2video", fps=25),
        "dv": encode(frames(2, 576, 720), "dv", "dvvideo", "yuv420p", fps=25),
        "rm": encode(frames(12, 48, 64), "rm", "rv20", fps=25),
        "nut": encode(pixels, "nut", "mpeg4"),
        "ivf": encode(pixels, "ivf", "libvpx-vp9"),
        "y4m": encode(pixels, "yuv4mpegpipe", "wrapped_avframe", fps=25),
        "mjpeg": encode(pixels, "mjpeg", "mjpeg", "yuvj420p", fps=25),
        "m1v": encode(pixels, "mpeg1video", "mpeg1video", fps=25),
        "m4v": encode(pixels, "m4v", "mpeg4", fps=25),
        "h264": encode(pixels, "h264", "libx264", fps=25),
        "obu": encode(pixels, "obu", "libsvtav1", fps=25),
    }


def sound_only(container: str = "mp4") -> bytes:
    """A second of silence."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def resized_gif(data: bytes, width: int, height: int) -> bytes:
    """A GIF whose few bytes announce, and decode to, frames of any size."""
    lying = bytearray(data)
    struct.pack_into("<HH", lying, 6, width, height)
    return bytes(lying)


def endless_index(mp4: bytes, samples: int) -> bytes:
    """The same few bytes, with an index that announces any number of frames."""
    lying = bytearray(mp4)
    struct.pack_into(">III", lying, lying.index(b"stsz") + 4, 0, 1, samples)
    struct.pack_into(">III", lying, lying.index(b"stsc") + 12, 1, samples, 1)
    struct.pack_into(">II", lying, lying.index(b"stts") + 12, samples, 1)
    return bytes(lying)


def inflated_header(megabytes: int) -> bytes:
    """A QuickTime file whose compressed header is a thousandth of what it unpacks to."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()
    unpacked_size = struct.pack(">I", megabytes << 20)
    header = box(b"dcom", b"zlib") + box(b"cmvd", unpacked_size + packed)
    return box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"moov", box(b"cmov", header))


def lying_pictures(width: int, height: int) -> bytes:
    """A QuickTime file of PNG pictures of any size, whose header says 48x32."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    parts = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(name, body) for name, body in parts)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as output:
        stream = output.add_stream("png", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "rgb24"
        for number in range(8):
            packet = av.Packet(picture)
            packet.stream, packet.time_base = stream, Fraction(1, 8)
            packet.pts = packet.dts = number
            output.mux(packet)
    return buffer.getvalue()


def referring_movie(mov: bytes, target: str) -> bytes:
    """A QuickTime movie whose frames lie in another file, at the places that the index says."""
    path = target.encode() + b"\0" * (len(target) % 2)
    record = bytes(50) + b"\1x" + bytes(62 + 16) + struct.pack(">HH", 1, 1) + bytes(16)
    record += struct.pack(">HH", 2, len(path)) + path + struct.pack(">hH", -1, 0)
    alias = struct.pack(">I", 0) + record.ljust(150, b"\0")
    entries = struct.pack(">II", 0, 1) + box(b"alis", alias)
    start = mov.index(b"dref") - 4
    (size,) = struct.unpack_from(">I", mov, start)
    references = box(b"dref", entries)
    movie = bytearray(mov[:start] + references + mov[start + size :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = movie.index(name) - 4
        (outer,) = struct.unpack_from(">I", movie, at)
        struct.pack_into(">I", movie, at, outer + len(references) - size)
    return bytes(movie)


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def damaged_files(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Names and contents; what is done to a file depends on its number and the seed alone."""
    whole = whole_files()
    names = sorted(whole)
    lies = list(_lies(whole["mp4"], whole["gif"]))
    yield from lies
    for number in range(count - len(lies)):
        rng = random.Random(f"{seed}-{number}")
        name = names[number % len(names)]
        damage = DAMAGES[number // len(names) % len(DAMAGES)]
        other = whole[rng.choice(names)]
        yield f"{number}-{damage.__name__[1:]}-{name}", damage(whole[name], other, rng)


def _lies(mp4: bytes, gif: bytes) -> Iterator[tuple[str, bytes]]:
    """Files whose header does not tell the truth, or that hold no frame."""
    yield "huge-gif", resized_gif(gif, 10_000, 10_000)
    yield "flat-gif", resized_gif(gif, 48, 1)
    yield "sound-mp4", sound_only()
    yield "sound-mkv", sound_only("matroska")
    yield "no-frames", mp4.replace(b"stsz", b"free").replace(b"stco", b"free")
    yield "long-header", mp4.replace(b"mvhd", b"mvhx")
    yield "only-header", mp4[: mp4.index(b"mdat")]
    yield "extension-lies", b"RIFF" + mp4
    yield "endless-index", endless_index(mp4, 170_000_000)  # 4 GB
    yield "inflated-header", inflated_header(64)
    yield "lying-pictures", lying_pictures(10_000, 1_000)


def _cut(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def _flip(data: bytes, other: bytes, rng: random.Random) -> bytes:
    flipped = bytearray(data)
    for _ in range(rng.choice(_FLIPS)):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def _blank(data: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.randrange(1, 2000))
    return data[:start] + bytes(end - start) + data[end:]


# What is done to a file: it, another one, and what decides.
DAMAGES = (_cut, _flip, _splice, _blank)
