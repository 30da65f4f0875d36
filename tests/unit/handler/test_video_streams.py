"""Which of several streams is looked at: the one that players show."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.numbered import NUMBERED_SIZE, numbered_frames, numbers
from tests.support.videos import encode, frames
from videopure.bulk.rewrite import rewrite_video
from videopure.format.settings import Limits
from videopure.handler.video import Clip, read_clip

pytestmark = pytest.mark.unit

Default = av.stream.Disposition.default


def read(data: bytes) -> Clip:
    return read_clip(data, 8, NUMBERED_SIZE, Limits())


def several(container: str, streams: Sequence[tuple[np.ndarray, av.stream.Disposition]]) -> bytes:
    """A file of several video streams with their dispositions."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        made = []
        for pixels, disposition in streams:
            cover = disposition & av.stream.Disposition.attached_pic
            stream = output.add_stream("mjpeg" if cover else "libx264", rate=10)
            stream.height, stream.width = pixels.shape[1:3]
            stream.pix_fmt = "yuvj420p" if cover else "yuv420p"
            stream.disposition = disposition
            made.append(stream)
        for (pixels, _), stream in zip(streams, made, strict=True):
            for image in pixels:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                output.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            output.mux(stream.encode(None))
    return buffer.getvalue()


def with_cover() -> bytes:
    cover = (frames(1, 32, 32), av.stream.Disposition.attached_pic)
    return several("mp4", [cover, (numbered_frames(30), Default)])


def test_a_cover_picture_is_not_the_video() -> None:
    clip = read(with_cover())
    assert clip.info.frames == 30
    assert numbers(clip.frames) == [1, 5, 9, 13, 16, 20, 24, 28]
    assert clip.warnings == []


def test_a_cover_picture_is_not_purified(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    source.write_bytes(with_cover())
    written = rewrite_video(source, target, lambda clips: clips, 8, 8, lambda *done: None)
    assert (written.frames, written.height, written.width) == (30, *NUMBERED_SIZE)
    assert numbers(read(target.read_bytes()).frames) == [1, 5, 9, 13, 16, 20, 24, 28]


def test_the_animation_of_an_avif_is_not_its_still() -> None:
    clip = read(encode(numbered_frames(10), "avif", "libsvtav1", fps=10))
    assert clip.info.frames == 10
    assert numbers(clip.frames) == [0, 1, 3, 4, 5, 6, 8, 9]
    assert clip.warnings == []


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [((0, 1), 1), ((1, 0), 0), ((1, 1), 0), ((0, 0), 0)],
    ids=["second", "first", "both", "neither"],
)
def test_the_default_stream_is_looked_at_and_the_others_are_told(
    flags: tuple[int, int], chosen: int
) -> None:
    """What a file shows to people is what it is judged by; more than one video is worth a word."""
    halves = [numbered_frames(30), numbered_frames(30, first=100)]
    none = av.stream.Disposition(0)
    chosen_flags = [Default if flag else none for flag in flags]
    data = several("matroska", list(zip(halves, chosen_flags, strict=True)))
    clip = read(data)
    assert numbers(clip.frames)[0] == (1, 101)[chosen]
    (warning,) = clip.warnings
    assert f"2 video streams: the one that players show, stream {chosen}," in warning
