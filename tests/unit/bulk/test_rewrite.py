"""Videos through a function of their frames, window by window."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from torch import Tensor

from tests.support.numbered import NUMBERED_SIZE
from tests.support.videos import encode, frames
from videopure.bulk.rewrite import RewriteError, Rewritten, rewrite_video

pytestmark = pytest.mark.unit


def pixels_of(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@pytest.mark.parametrize("size", [(32, 48), (35, 51)])
def test_frames_go_through_in_windows_and_come_back_in_place(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
    original = frames(11, *size)
    source.write_bytes(encode(original, "matroska", "ffv1", "bgr0"))
    seen: list[tuple[int, ...]] = []
    told: list[tuple[int, int]] = []

    def negative(clips: Tensor) -> Tensor:
        seen.append(tuple(clips.shape))
        return 1 - clips

    written = rewrite_video(source, target, negative, 4, 8, lambda *done: told.append(done))
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    expected = Rewritten(11, even[1], even[0], pytest.approx(8), pytest.approx(11 / 8), False, [])
    assert written == expected
    padded = (-size[0] % 8 + size[0], -size[1] % 8 + size[1])
    assert seen == [(1, 4, 3, *padded)] * 3
    assert told == [(0, 11), (4, 11), (8, 11), (11, 11)]
    copy = pixels_of(target.read_bytes())
    assert copy.shape == (11, *even, 3)
    np.testing.assert_allclose(copy[:, : size[0], : size[1]], 255 - original, atol=12)


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov", ".webm"])
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_keep_their_shape(tmp_path: Path, ending: str, turned: bool) -> None:
    """Twice as wide as high; on end they are twice as high as wide."""
    source, target = tmp_path / "in.mp4", tmp_path / f"out{ending}"
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        copied = output.add_stream("libx264", rate=10)
        copied.height, copied.width, copied.pix_fmt = *NUMBERED_SIZE, "yuv420p"
        copied.codec_context.sample_aspect_ratio = Fraction(2)
        for image in frames(4, *NUMBERED_SIZE):
            output.mux(copied.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(copied.encode(None))
    data = bytearray(buffer.getvalue())
    if turned:
        _turn(data)
    source.write_bytes(data)
    written = rewrite_video(source, target, lambda clips: clips, 4, 8, lambda *done: None)
    with av.open(target) as container:
        made = container.streams.video[0]
        shape = made.sample_aspect_ratio or 1
        height, width = NUMBERED_SIZE[::-1] if turned else NUMBERED_SIZE
        across = width * (Fraction(1, 2) if turned else 2)
        assert (made.width * shape, made.height) == (across, height)
        assert (written.width, written.height) == (made.width, made.height)


def test_frames_that_change_their_size_are_scaled_to_the_first(tmp_path: Path) -> None:
    source, target = tmp_path / "in.ts", tmp_path / "out.mp4"
    first, then = (encode(frames(8, *size), "mpegts", fps=25) for size in ((32, 48), (64, 96)))
    source.write_bytes(first + then)
    written = rewrite_video(source, target, lambda clips: clips, 4, 8, lambda *done: None)
    assert (written.frames, written.width, written.height) == (16, 48, 32)
    assert pixels_of(target.read_bytes()).shape == (16, 32, 48, 3)


def test_a_lost_sound_and_damage_are_told(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as output:
        video = output.add_stream("mjpeg", rate=8)
        video.height, video.width, video.pix_fmt = 32, 48, "yuvj420p"
        sound = output.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        output.mux(sound.encode(silence))
        output.mux(sound.encode(None))
        for image in frames(20, 32, 48):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            output.mux(video.encode(picture.reformat(format="yuvj420p")))
        output.mux(video.encode(None))
    data = whole.read_bytes()
    with av.open(io.BytesIO(data)) as container:
        ends = [p.pos for p in container.demux(video=0) if p.size > 0]
    source.write_bytes(data[: ends[10]] + bytes(ends[11] - ends[10]) + data[ends[11] :])
    written = rewrite_video(source, target, lambda clips: clips, 4, 8, lambda *done: None)
    assert written.sound
    assert written.warnings == ["1 of 20 frames could not be decoded"]
    source.write_bytes(data[: ends[5]])
    with pytest.raises(RewriteError, match=f"^{source}: the video is damaged or cut short"):
        rewrite_video(source, target, lambda clips: clips, 4, 8, lambda *done: None)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("out.gif", None, r"must end in one of \.mp4, \.m4v, \.mov, \.mkv, \.webm"),
        ("out.txt", None, "must end in one of"),
        ("out.mp4", b"", "is empty"),
        ("out.mp4", b"ffconcat version 1.0\nfile 'other.mp4'\n", "are a playlist"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, name: str, data: bytes | None, words: str
) -> None:
    """A list of files opens none of them: the copy would show what the list names."""
    (tmp_path / "other.mp4").write_bytes(encode(frames(4, 32, 48)))
    source = tmp_path / "in.mp4"
    source.write_bytes(encode(frames(4, 32, 48)) if data is None else data)
    with pytest.raises(RewriteError, match=words):
        rewrite_video(source, tmp_path / name, lambda clips: clips, 4, 8, lambda *done: None)


def test_a_turned_video_is_copied_upright(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    data = bytearray(encode(frames(4, 32, 48)))
    _turn(data)
    source.write_bytes(data)
    written = rewrite_video(source, target, lambda clips: clips, 4, 8, lambda *done: None)
    assert (written.width, written.height) == (32, 48)


def _turn(mp4: bytearray) -> None:
    """Let the display turn the video by a quarter: the matrix of its track header."""
    turned = (0, -1 << 16, 0, 1 << 16, 0, 0, 0, 0, 1 << 30)
    at = mp4.index(b"tkhd") + 44
    mp4[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
