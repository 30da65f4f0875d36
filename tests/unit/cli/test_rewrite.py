"""Videos through a function of their frames, window by window."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from torch import Tensor

from tests.support.videos import encode, frames
from videopure.cli.rewrite import Rewritten, rewrite_video

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
    told: list[tuple[int, int | None]] = []

    def negative(clips: Tensor) -> Tensor:
        seen.append(tuple(clips.shape))
        return 1 - clips

    written = rewrite_video(source, target, negative, 4, 8, lambda *done: told.append(done))
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert written == Rewritten(11, even[1], even[0], Fraction(8))
    padded = (-size[0] % 8 + size[0], -size[1] % 8 + size[1])
    assert seen == [(1, 4, 3, *padded)] * 3
    assert [done for done, _ in told] == [4, 8, 11]
    copy = pixels_of(target.read_bytes())
    assert copy.shape == (11, *even, 3)
    np.testing.assert_allclose(copy[:, : size[0], : size[1]], 255 - original, atol=12)


def test_a_turned_video_is_copied_upright(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    data = bytearray(encode(frames(4, 32, 48)))
    turned = (0, -1 << 16, 0, 1 << 16, 0, 0, 0, 0, 1 << 30)
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    source.write_bytes(data)
    written = rewrite_video(source, target, lambda clips: clips, 4, 8, lambda *done: None)
    assert (written.width, written.height) == (32, 48)
