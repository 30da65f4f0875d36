"""Small files that cost a decoder without limits minutes: made on the spot."""

from __future__ import annotations

import io
import struct
import zlib

import av
import numpy as np

from tests.support.damage import box
from tests.support.videos import encode

__all__ = ["endless_sound", "invisible_frames", "packed_header"]

_SHOWN = 1 << 4  # in the first byte of a VP8 frame: RFC 6386, 9.1


def invisible_frames(count: int, height: int = 2304, width: int = 4096) -> bytes:
    """An IVF file of one VP8 picture and then frames that are decoded and never shown.

    Each takes about a hundred bytes, and as long to decode as its pixels say.
    """
    ivf = encode(np.full((2, height, width, 3), 128, np.uint8), "ivf", "libvpx")
    head, first, second = ivf[:32], *_ivf_frames(ivf)
    hidden = bytes([second[0] & ~_SHOWN]) + second[1:]
    frames = [first, *[hidden] * count]
    return head + b"".join(
        struct.pack("<IQ", len(frame), number) + frame for number, frame in enumerate(frames)
    )


def _ivf_frames(ivf: bytes) -> list[bytes]:
    frames, at = [], 32
    while at < len(ivf):
        (size,) = struct.unpack_from("<I", ivf, at)
        frames.append(ivf[at + 12 : at + 12 + size])
        at += 12 + size
    return frames


def endless_sound(samples: int, chunk: int = 100_000) -> bytes:
    """An mp4 of eight small pictures, whose sound track announces any number of samples.

    They are of one byte each, in chunks that all lie at one place of the file.
    """
    mp4 = _with_sound(chunk)
    sound = mp4.rindex(b"trak") - 4
    chunks = samples // chunk
    tables = {
        b"stts": struct.pack(">IIII", 0, 1, samples, 2),
        b"stsc": struct.pack(">IIIII", 0, 1, 1, chunk, 1),
        b"stsz": struct.pack(">III", 0, 1, samples),
        b"stco": struct.pack(">II", 0, chunks) + struct.pack(">I", mp4.index(b"mdat") + 4) * chunks,
    }
    track = mp4[sound:]
    for name, body in tables.items():
        at = track.index(name) - 4
        (size,) = struct.unpack_from(">I", track, at)
        track = track[:at] + box(name, body) + track[at + size :]
    longer = bytearray(mp4[:sound] + track)
    added = len(longer) - len(mp4)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = longer.index(name, 0 if name == b"moov" else sound) - 4
        (size,) = struct.unpack_from(">I", longer, at)
        struct.pack_into(">I", longer, at, size + added)
    return bytes(longer)


def _with_sound(room: int) -> bytes:
    """An mp4 of eight pictures and a second of noise, its index last, with so many bytes more."""
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        video = output.add_stream("libx264", rate=8)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        audio = output.add_stream("aac", rate=44100)
        for number in range(8):
            pixels = np.full((32, 48, 3), 20 * number, np.uint8)
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        noise = rng.uniform(-1, 1, (1, 1024)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
        sound.sample_rate = 44100
        output.mux(audio.encode(sound))
        output.mux([*video.encode(None), *audio.encode(None)])
    mp4 = buffer.getvalue()
    index = mp4.index(b"moov") - 4
    return mp4[:index] + box(b"free", bytes(room)) + mp4[index:]


def packed_header(megabytes: int) -> bytes:
    """A QuickTime file whose compressed header says its size in 64 bits."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()
    header = box(b"dcom", b"zlib") + box(b"cmvd", struct.pack(">I", megabytes << 20) + packed)
    large = struct.pack(">I4sQ", 1, b"cmov", len(header) + 16) + header
    return box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"moov", large)
