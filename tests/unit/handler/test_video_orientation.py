"""The eight ways a frame can lie, in the handler and in `purify`.

The right pixels come from what a display matrix means: ISO 14496-12, 6.2.2.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.support.videos import encode
from videopure.bulk.rewrite import rewrite_video
from videopure.format.settings import Limits
from videopure.handler.video import read_clip
from videopure.handler.video.orientation import Orientation, from_matrix

pytestmark = pytest.mark.unit

HEIGHT, WIDTH = 32, 48
EIGHT = [
    (a, b, c, d)
    for a, b, c, d in (
        *((a, 0, 0, d) for a in (1, -1) for d in (1, -1)),
        *((0, b, c, 0) for b in (1, -1) for c in (1, -1)),
    )
]


def picture() -> np.ndarray:
    """A frame uint8 [H, W, 3] whose corners differ: no turn and no mirror leaves it as it is."""
    pixels = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    pixels[: HEIGHT // 2, : WIDTH // 2] = 230
    pixels[: HEIGHT // 2, WIDTH // 2 :] = 170
    pixels[HEIGHT // 2 :, : WIDTH // 2] = 110
    return pixels


def shown(pixels: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """The frame as a player shows it: the pixel at (x, y) goes to (ax + cy, bx + dy)."""
    a, b, c, d = matrix
    places = {}
    for y in range(HEIGHT):
        for x in range(WIDTH):
            places[a * x + c * y, b * x + d * y] = pixels[y, x]
    left, top = min(x for x, _ in places), min(y for _, y in places)
    right, bottom = max(x for x, _ in places), max(y for _, y in places)
    result = np.zeros((bottom - top + 1, right - left + 1, 3), np.uint8)
    for (x, y), value in places.items():
        result[y - top, x - left] = value
    return result


def video(matrix: tuple[int, int, int, int]) -> bytes:
    data = bytearray(encode(np.repeat(picture()[None], 4, 0)))
    a, b, c, d = matrix
    one = 1 << 16
    values = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *values)
    return bytes(data)


@pytest.mark.parametrize("matrix", EIGHT)
def test_every_display_matrix_is_followed(matrix: tuple[int, int, int, int]) -> None:
    expected = shown(picture(), matrix)
    clip = read_clip(video(matrix), 4, expected.shape[:2], Limits())
    assert (clip.info.height, clip.info.width) == expected.shape[:2]
    pixels = clip.frames[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(pixels - expected).mean() < 4


@pytest.mark.parametrize("matrix", EIGHT)
def test_a_purified_copy_is_upright(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    source.write_bytes(video(matrix))
    rewrite_video(source, target, lambda clips: clips, 4, 8, lambda *done: None)
    expected = shown(picture(), matrix)
    clip = read_clip(target.read_bytes(), 4, expected.shape[:2], Limits())
    pixels = clip.frames[0].permute(1, 2, 0).numpy() * 255
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < 4


@pytest.mark.parametrize(
    "matrix",
    [(0, 0, 0, 0), (1, 1, 1, 1), (-(2**31), 0, 0, 0)],
    ids=["zeros", "flat", "minimum"],
)
def test_a_matrix_without_an_inverse_changes_nothing(matrix: tuple[int, int, int, int]) -> None:
    a, b, c, d = matrix
    assert from_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30)) == Orientation()


def test_a_slanted_matrix_is_taken_for_the_nearest() -> None:
    slanted = (65_000, 8_000, 0, -8_000, 65_000, 0, 0, 0, 1 << 30)
    assert from_matrix(slanted) == Orientation()
