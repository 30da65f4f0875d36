"""The one table of containers: all that it promises is read; the docs say the same."""

from __future__ import annotations

import io
import re
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.damage import sound_only, whole_files
from tests.support.numbered import NUMBERED_SIZE, encoded_packets, mux, numbered_frames, numbers
from tests.support.videos import encode, frames
from videopure.format.settings import Limits
from videopure.handler.errors import NotAVideoError, UnusableVideoError
from videopure.handler.video import Clip, read_clip
from videopure.handler.video.codecs import CODECS, decoders
from videopure.handler.video.containers import CONTAINERS, demuxers

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[3] / "docs" / "videos.md"


def read(data: bytes) -> Clip:
    return read_clip(data, 8, NUMBERED_SIZE, Limits())


# FFmpeg's demuxer: muxer, encoder, pixels, frames a second.
WRITTEN = {
    "mov,mp4,m4a,3gp,3g2,mj2": ("mov", "prores_ks", "yuv422p10le", 10),
    "matroska,webm": ("matroska", "libx264", "yuv420p", 10),
    "avi": ("avi", "mjpeg", "yuvj420p", 10),
    "mpegts": ("mpegts", "mpeg2video", "yuv420p", 25),
    "mpeg": ("dvd", "mpeg2video", "yuv420p", 25),
    "flv": ("flv", "flv1", "yuv420p", 10),
    "asf": ("asf", "wmv2", "yuv420p", 10),
    "ogg": ("ogg", "libvpx", "yuv420p", 10),
    "mxf": ("mxf", "mpeg2video", "yuv420p", 25),
    "rm": ("rm", "rv20", "yuv420p", 25),
    "nut": ("nut", "ffv1", "yuv420p", 10),
    "ivf": ("ivf", "libvpx-vp9", "yuv420p", 10),
    "gif": ("gif", "gif", "rgb8", 10),
    "apng": ("apng", "apng", "rgb24", 10),
    "yuv4mpegpipe": ("yuv4mpegpipe", "wrapped_avframe", "yuv420p", 25),
    "mjpeg": ("mjpeg", "mjpeg", "yuvj420p", 25),
    "mpegvideo": ("mpeg1video", "mpeg1video", "yuv420p", 25),
    "m4v": ("m4v", "mpeg4", "yuv420p", 25),
    "h264": ("h264", "libx264", "yuv420p", 25),
    "obu": ("obu", "libsvtav1", "yuv420p", 25),
}


@pytest.mark.parametrize("demuxer", WRITTEN)
def test_every_container_of_the_table_is_read(demuxer: str) -> None:
    container, codec, pix_fmt, fps = WRITTEN[demuxer]
    data = encode(numbered_frames(30), container, codec, pix_fmt, fps=fps)
    with av.open(io.BytesIO(data)) as opened:
        assert opened.format.name == demuxer
    clip = read(data)
    assert clip.info.frames == 30
    assert numbers(clip.frames) == [1, 5, 9, 13, 16, 20, 24, 28]
    assert clip.info.fps == pytest.approx(fps, rel=0.05)
    assert clip.warnings == []


def test_dv_is_read() -> None:
    """Of one size alone."""
    data = encode(frames(10, 576, 720), "dv", "dvvideo", "yuv420p", fps=25)
    clip = read(data)
    assert (clip.info.frames, clip.info.width, clip.info.height) == (10, 720, 576)
    brightness = clip.frames.mean((1, 2, 3)).numpy()
    assert (np.diff(brightness) > 0).all()


def test_the_table_is_complete_and_in_the_docs() -> None:
    named = [container.demuxers for container in CONTAINERS]
    assert set(named) == {*WRITTEN, "dv", "hevc"}  # H.265 is read in test_video.py
    assert demuxers() == ",".join(named)
    rows = re.findall(r"^\| ([^|]+) \| `(\..+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    written = [(name.strip(), endings.replace("`", "").strip()) for name, endings in rows]
    assert written == [(c.name, c.endings) for c in CONTAINERS]


def test_the_list_of_codecs_is_in_the_docs() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| (`[a-z].+`) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE
    )
    written = {name: tuple(names.replace("`", "").split()) for name, names in rows}
    assert written == CODECS


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt", "name"),
    [
        ("matroska", "snow", "yuv420p", "snow"),
        ("avi", "zmbv", "bgr0", "zmbv"),
        ("mov", "rpza", "rgb555le", "rpza"),
        ("flv", "flashsv", "bgr24", "flashsv"),
    ],
)
def test_a_codec_that_is_not_listed_is_refused_by_name(
    container: str, codec: str, pix_fmt: str, name: str
) -> None:
    data = encode(frames(4, 32, 48), container, codec, pix_fmt)
    with pytest.raises(
        NotAVideoError, match=f"the video's codec is {name}, which is not supported"
    ):
        read(data)


def test_opening_a_file_decodes_nothing_that_is_not_listed() -> None:
    """FFmpeg decodes a little in opening where the header does not tell the pixels' format."""
    data = encode(frames(4, 32, 48), "avi", "zmbv", "bgr0")
    for whitelist, known in (({}, "bgr0"), ({"codec_whitelist": decoders()}, None)):
        with av.open(io.BytesIO(data), options=whitelist) as container:
            assert container.streams.video[0].codec_context.pix_fmt == known


def wav() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def picture(codec: str, pix_fmt: str) -> bytes:
    packets, _ = encoded_packets(frames(1, 32, 48), codec, pix_fmt)
    return packets[0]


def webp(container: str) -> bytes:
    return encode(frames(4, 32, 48), container, "libwebp" + "_anim" * (container == "webp"))


OTHERS = {
    "a WAV file, which is sound alone": wav,
    "a JPEG picture": lambda: picture("mjpeg", "yuvj420p"),
    "a PNG picture that is not animated": lambda: picture("png", "rgb24"),
    "a WebP picture; animated ones": lambda: webp("webp"),
    "an MP3 file, which is sound alone": lambda: b"ID3\4" + bytes(500),
    "a ZIP archive: unpack it": lambda: b"PK\3\4" + bytes(500),
    "compressed by gzip": lambda: b"\x1f\x8b\x08" + bytes(500),
    "HTML or XML": lambda: b"<!doctype html><title>Not found</title>",
    "a playlist": lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
}


@pytest.mark.parametrize("words", OTHERS)
def test_what_is_no_video_is_called_by_its_name(words: str) -> None:
    with pytest.raises(NotAVideoError, match=words) as caught:
        read(OTHERS[words]())
    assert "damaged" not in str(caught.value)
    assert "send a video" in str(caught.value)


def test_a_file_without_pictures_says_so() -> None:
    with pytest.raises(NotAVideoError, match="has no video stream"):
        read(sound_only("matroska"))


def encrypted() -> bytes:
    """An mp4 with Common Encryption, as streaming services make them."""
    packets, stream = encoded_packets(numbered_frames(30))
    scheme = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    extradata = stream.codec_context.extradata
    return mux(packets, "mp4", "libx264", muxing=scheme, extradata=extradata)


def test_an_encrypted_video_is_called_encrypted() -> None:
    with pytest.raises(UnusableVideoError, match=r"is encrypted \(DRM\): send it without"):
        read(encrypted())
    init = encrypted()
    init = init[init.index(b"moov") - 4 :]  # its header alone, as of a segmented stream
    with pytest.raises(UnusableVideoError, match="is encrypted"):
        read(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + init)


def test_an_encrypted_video_of_which_a_frame_decodes_is_called_encrypted() -> None:
    """Encrypted bytes look like a frame now and then: here one in five is left as it was."""
    packets, stream = encoded_packets(numbered_frames(30))
    data = bytearray(mux(packets, "mp4", "libx264", extradata=stream.codec_context.extradata))
    for number, packet in enumerate(packets):
        if number % 5:
            unit = packet[4:]  # mp4 has sizes in the place of start codes
            at = data.index(unit)
            data[at : at + len(unit)] = bytes(len(unit))
    with pytest.raises(UnusableVideoError, match="damaged or cut short"):
        read(bytes(data))
    mark = b"stsd" + bytes(12) + b"encv"
    data += (8 + len(mark)).to_bytes(4, "big") + b"free" + mark
    with pytest.raises(UnusableVideoError, match="is encrypted"):
        read(bytes(data))


def test_intact_files_are_not_called_encrypted() -> None:
    """Chance bytes may look like anything: only what cannot be decoded is asked."""
    data = whole_files()["webm"].replace(b"Lavf", b"\x50\x33\x81\x01", 1)
    assert read(data).info.frames == 12
