"""Which frames a video has: those that a decoder shows, however many packets they came in.

The frames show their own numbers; the right ones are the centres of equal parts of what is shown.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import av
import pytest

from tests.support.h264_fields import field_pictures
from tests.support.numbered import NUMBERED_SIZE, encoded_packets, mux, numbered_frames, numbers
from tests.support.videos import encode
from videopure.format.settings import Limits
from videopure.handler.errors import TooLargeError
from videopure.handler.video import Clip, read_clip
from videopure.handler.video.reading import Budget, OpenVideo, Shown, Survey, open_video

pytestmark = pytest.mark.unit

FRAMES = numbered_frames(60)
GROUPS = {"x264-params": "keyint=20:min-keyint=20:scenecut=0:bframes=2"}
OPEN_GROUPS = {"x264-params": "keyint=20:min-keyint=20:scenecut=0:bframes=3:open-gop=1"}


def read(data: bytes, num_frames: int = 8) -> Clip:
    return read_clip(data, num_frames, NUMBERED_SIZE, Limits())


def centres(first: int, last: int, count: int = 8) -> list[int]:
    """The numbers at the centres of `count` equal parts of first..last."""
    shown = range(first, last + 1)
    return [shown[(2 * i + 1) * len(shown) // (2 * count)] for i in range(count)]


def check(data: bytes, first: int, last: int) -> None:
    """Exactly the frames first..last are shown, and nothing is said about it."""
    clip = read(data)
    assert clip.info.frames == last - first + 1
    assert numbers(clip.frames) == centres(first, last)
    assert clip.warnings == []


def packets_of(data: bytes) -> int:
    with av.open(io.BytesIO(data)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size > 0)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi", "flv"])
def test_ordinary_files_are_read_in_order(container: str) -> None:
    check(encode(FRAMES, container, fps=10, **GROUPS), 0, 59)


@pytest.mark.parametrize(("start", "length"), [(25, 20), (5, 50), (21, 15)])
def test_an_edit_list_over_several_groups_of_pictures(start: int, length: int) -> None:
    """A trimmed phone video: the file keeps what the edit list hides, and decoding needs some."""
    data = bytearray(encode(FRAMES, fps=10, **GROUPS))
    entry = data.index(b"elst") + 12
    _, offset, rate = struct.unpack_from(">IiI", data, entry)
    (timescale,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)
    (movie_scale,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    edit = (length * movie_scale // 10, offset + start * timescale // 10, rate)
    struct.pack_into(">IiI", data, entry, *edit)
    assert packets_of(bytes(data)) > length
    check(bytes(data), start, start + length - 1)


def test_empty_chunks_of_an_avi_repeat_the_frame_before() -> None:
    packets, _ = encoded_packets(FRAMES[:34], "mjpeg", "yuvj420p")
    data = mux(packets, "avi", "mjpeg", "yuvj420p", pts=lambda number: 3 * number)
    assert data.count(b"00dc\0\0\0\0") >= 60
    check(data, 0, 33)


@pytest.mark.parametrize("container", ["mov", "matroska", "nut"])
def test_empty_packets_repeat_the_frame_before(container: str) -> None:
    packets, _ = encoded_packets(FRAMES[:30], "mjpeg", "yuvj420p")
    sparse = [packet if number % 3 == 0 else b"" for number, packet in enumerate(packets)]
    clip = read(mux(sparse, container, "mjpeg", "yuvj420p"))
    assert clip.info.frames == 10
    assert numbers(clip.frames) == [3 * number for number in centres(0, 9)]
    assert clip.warnings == []


@pytest.mark.parametrize("container", ["h264", "mpegts"])
def test_two_field_pictures_are_one_frame(container: str) -> None:
    packets = field_pictures(FRAMES[:25])
    if container == "h264":
        data = b"".join(packets)
    else:
        data = mux(packets, container, "libx264", fps=50)
        assert packets_of(data) == 50
    check(data, 0, 24)


@pytest.mark.parametrize("container", ["avi", "matroska"])
def test_pictures_that_are_not_coded_show_nothing_new(container: str) -> None:
    """MPEG-4's `vop_coded` is 0: the players keep the picture they have."""
    packets, _ = encoded_packets(FRAMES[:20], "mpeg4", fps=8)
    with_gaps = []
    for number, packet in enumerate(packets):
        with_gaps += [packet, _not_coded(number)] if number % 2 else [packet]
    clip = read(mux(with_gaps[:-1], container, "mpeg4", fps=8))
    assert clip.info.frames == 20
    assert numbers(clip.frames) == centres(0, 19)
    assert clip.warnings == []


def _not_coded(number: int) -> bytes:
    """ISO 14496-2, 6.2.5: a predicted picture, its time in three bits, and nothing in it."""
    bits = "01" + "0" + "1" + f"{number % 8:03b}" + "1" + "0"
    return b"\0\0\1\xb6" + int(bits.ljust(16, "1"), 2).to_bytes(2, "big")


def test_hidden_frames_of_vp8_are_not_counted() -> None:
    """RFC 6386, 9.1: bit 4 of a frame says whether it is shown, or others only refer to it."""
    packets, _ = encoded_packets(FRAMES, "libvpx")
    hidden = range(5, 60, 10)
    for number in hidden:
        packets[number] = bytes([packets[number][0] & ~0x10]) + packets[number][1:]
    clip = read(mux(packets, "webm", "libvpx"))
    shown = [number for number in range(60) if number not in hidden]
    assert clip.info.frames == 54
    assert numbers(clip.frames) == [shown[index] for index in centres(0, 53)]
    assert clip.warnings == []


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "mpeg4"])
@pytest.mark.parametrize("share", [0.2, 0.45])
def test_a_broadcast_begins_at_its_first_key_frame(codec: str, share: float) -> None:
    """What comes before refers to frames that are not there: some decoders show grey smears."""
    options = GROUPS if codec == "libx264" else {"g": "20", "bf": "2"}
    whole = encode(FRAMES, "mpegts", codec, fps=25, **options)
    cut = int(len(whole) * share) // 188 * 188
    with av.open(io.BytesIO(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size > 0]
    order = sorted(packet.pts for packet in packets)
    keys = [order.index(p.pts) for p in packets if p.is_keyframe and p.pos >= cut]
    assert 0 < keys[0] < 59
    check(whole[cut:], keys[0], 59)


@pytest.mark.parametrize("container", ["matroska", "mp4", "flv"])
def test_open_groups_of_pictures_after_a_cut(container: str) -> None:
    """Cutting without encoding keeps pictures that refer to the group before."""
    whole = encode(FRAMES, "matroska", fps=10, **OPEN_GROUPS)
    cut = io.BytesIO()
    with (
        av.open(io.BytesIO(whole)) as source,
        av.open(cut, "w", format=container) as target,
    ):
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        keys = 0
        for packet in source.demux(stream):
            keys += packet.is_keyframe and packet.size > 0
            if keys > 1 and packet.size > 0:
                packet.stream = copied
                target.mux(packet)
    clip = read(cut.getvalue())
    check(cut.getvalue(), 60 - clip.info.frames, 59)
    assert clip.info.frames >= 38


def test_ordinary_files_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    frames = OpenVideo.frames

    def counted(self: OpenVideo, survey: Survey) -> Iterator[Shown]:
        decoded.append(self)
        return frames(self, survey)

    monkeypatch.setattr(OpenVideo, "frames", counted)
    read(encode(FRAMES, fps=10, **GROUPS))
    assert len(decoded) == 1
    packets = field_pictures(FRAMES[:25])
    read(mux(packets, "mpegts", "libx264", fps=50))
    assert len(decoded) == 3  # a second pass, where packets told otherwise


def test_a_first_pass_of_packets_counts_what_is_shown() -> None:
    with open_video(encode(FRAMES, fps=10, **GROUPS), Budget(Limits())) as video:
        survey = video.survey()
    assert survey.begins == pytest.approx([number / 10 for number in range(60)])
    assert survey.seconds == pytest.approx(6)


def test_two_packets_a_frame_are_no_reason_to_refuse() -> None:
    data = mux(field_pictures(FRAMES[:25]), "mpegts", "libx264", fps=50)
    assert read_clip(data, 8, NUMBERED_SIZE, Limits(max_frames=25)).info.frames == 25
    with pytest.raises(TooLargeError, match="25 frames, more than the 24 allowed"):
        read_clip(data, 8, NUMBERED_SIZE, Limits(max_frames=24))
