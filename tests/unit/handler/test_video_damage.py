"""One rule for damage: what can be decoded is used if at most a tenth is missing."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from tests.support.damage import whole_files
from tests.support.numbered import NUMBERED_SIZE, encoded_packets, mux, numbered_frames, numbers
from tests.support.videos import encode
from videopure.format.settings import Limits
from videopure.handler.errors import RequestError, UnusableVideoError
from videopure.handler.video import Clip, read_clip
from videopure.handler.video.damage import Damage, announced_size

pytestmark = pytest.mark.unit

FRAMES = numbered_frames(40)
CODECS = {"libx264": "yuv420p", "mjpeg": "yuvj420p", "mpeg4": "yuv420p", "libvpx-vp9": "yuv420p"}


def read(data: bytes) -> Clip:
    return read_clip(data, 8, NUMBERED_SIZE, Limits())


def with_bad_packets(count: int) -> bytes:
    packets, _ = encoded_packets(FRAMES, "mjpeg", "yuvj420p")
    for number in range(count):
        packets[5 + 3 * number] = b"\xff\xd8" + bytes(50)
    return mux(packets, "avi", "mjpeg", "yuvj420p")


def test_one_bad_packet_of_forty_costs_one_frame() -> None:
    clip = read(with_bad_packets(1))
    assert clip.info.frames == 39
    assert clip.warnings == ["1 of 40 frames could not be decoded"]
    shown = [number for number in range(40) if number != 5]
    assert numbers(clip.frames) == [shown[(2 * i + 1) * 39 // 16] for i in range(8)]


def test_a_tenth_may_be_missing_and_no_more() -> None:
    assert read(with_bad_packets(4)).warnings == ["4 of 40 frames could not be decoded"]
    with pytest.raises(UnusableVideoError, match=r"35 of 40 frames .* 10% may be missing"):
        read(with_bad_packets(5))


@pytest.mark.parametrize("codec", CODECS)
def test_a_lost_last_byte_costs_one_frame_of_every_codec(codec: str) -> None:
    """Some decoders refuse a packet that is cut short, and some smear over it in silence."""
    options = {"bf": "0"} if codec == "libx264" else {}
    data = encode(FRAMES, "mp4", codec, CODECS[codec], movflags="faststart", **options)
    clip = read(data[:-1])
    assert clip.info.frames == 39
    assert clip.warnings == ["1 of 40 frames could not be decoded"]


def lengths(container: str) -> tuple[bytes, int]:
    """A file, and where its first 95 % of packets end."""
    codec = "mpeg2video" if container == "mxf" else "libx264"
    codec = "libvpx-vp9" if container in ("webm", "ivf") else codec
    noise = np.random.default_rng(0).integers(-60, 60, FRAMES.shape)
    pixels = (FRAMES + noise).clip(0, 255).astype(np.uint8)
    movflags = "faststart" if container == "mp4" else ""
    data = encode(pixels, container, codec, fps=25, movflags=movflags)
    with av.open(io.BytesIO(data)) as opened:
        ends = [packet.pos for packet in opened.demux(video=0) if packet.size > 0]
    return data, ends[38]


@pytest.mark.parametrize("container", ["mp4", "matroska", "webm", "flv", "mxf", "ivf", "avi"])
def test_a_cut_file_says_how_much_is_missing_or_is_refused(container: str) -> None:
    """By its index, or by how long its header says it is: for all containers that tell."""
    data, cut = lengths(container)
    assert read(data).warnings == []
    clip = read(data[:cut])
    assert 36 <= clip.info.frames <= 39
    (warning,) = clip.warnings
    missing, _, expected, *words = warning.split()
    assert " ".join(words) == "frames could not be decoded"
    assert int(expected) - int(missing) == clip.info.frames
    assert int(expected) == pytest.approx(40, abs=3)  # B-frames' delay counts as time in some
    with pytest.raises(UnusableVideoError, match="damaged or cut short"):
        read(data[: len(data) // 2])


@pytest.mark.parametrize("name", sorted(whole_files()))
def test_intact_files_have_no_warnings(name: str) -> None:
    data = whole_files()[name]
    assert read_clip(data, 2, NUMBERED_SIZE, Limits()).warnings == []
    assert (announced_size(data) or 0) <= len(data)


@pytest.mark.parametrize("name", ["webm", "mkv", "avi", "wmv", "mxf"])
def test_headers_that_tell_the_size_are_believed(name: str) -> None:
    data = whole_files()[name]
    assert 0.5 * len(data) < (announced_size(data) or 0) <= len(data)
    for size in range(0, 200):  # a header that is cut itself tells nothing, and breaks nothing
        announced_size(data[:size])


@pytest.mark.parametrize("container", ["matroska", "webm", "flv", "mxf", "ivf", "avi"])
def test_a_file_cut_before_its_first_frame_is_damaged(container: str) -> None:
    data, _ = lengths(container)
    with av.open(io.BytesIO(data)) as opened:
        first = next(opened.demux(video=0)).pos
    for size in range(max(0, first - 40), first + 40):
        with pytest.raises(RequestError):
            read(data[:size])


def test_a_stream_that_breaks_off_says_so() -> None:
    """AV1 without a container tells of no length, and its last unit is not whole."""
    data = encode(FRAMES, "obu", "libsvtav1", fps=25)
    assert read(data).warnings == []
    clip = read(data[:-1])
    assert clip.warnings == ["the file ends too early; it does not tell how much is missing"]


def test_frames_damaged_in_part_are_shown_and_told() -> None:
    data = bytearray(encode(FRAMES, "avi", "mpeg4", qscale="2", g="1"))
    with av.open(io.BytesIO(bytes(data))) as container:
        packet = [p for p in container.demux(video=0) if p.size > 0][20]
        middle = packet.pos + packet.size // 2
    data[middle : middle + 8] = bytes(range(1, 9))
    clip = read(bytes(data))
    assert clip.info.frames == 40
    assert clip.warnings == ["1 of 40 frames are partly damaged"]


def test_shares_are_counted_in_packets_and_told_in_frames() -> None:
    """Ten of two hundred fields are five of a hundred frames."""
    damage = Damage(whole=190, lacking=10)
    assert damage.share == 0.05
    assert damage.warnings(95) == ["5 of 100 frames could not be decoded"]
    with pytest.raises(RequestError, match="0 of 200 frames could be decoded"):
        damage.warnings(0)
