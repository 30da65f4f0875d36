"""Turns frames upright by their display matrix: rotated, mirrored, or both."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

__all__ = ["Orientation", "orientation_of", "upright"]


class Orientation(NamedTuple):
    """One of the eight orientations of a frame: the operations to apply, in this order."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


def orientation_of(frame: Any) -> Orientation:
    """The orientation that the display matrix of an `av.VideoFrame` asks for."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    return Orientation() if data is None else from_matrix(struct.unpack("=9i", bytes(data)))


def from_matrix(matrix: tuple[int, ...]) -> Orientation:
    """The orientation nearest to a display matrix (a, b, u, c, d, v, x, y, w) of ISO 14496-12.

    It shows the pixel at (x, y) at (a x + c y, b x + d y); a matrix without an inverse changes
    nothing.
    """
    a, b, _, c, d = matrix[:5]
    if a * d == b * c:
        return Orientation()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, d < 0, a < 0)
    return Orientation(True, b < 0, c < 0)


def upright(pixels: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    """A frame [H, W, 3] as it is shown, [W, H, 3] where it is transposed."""
    if orientation.transpose:
        pixels = pixels.transpose(1, 0, 2)
    rows = slice(None, None, -1 if orientation.flip_rows else None)
    columns = slice(None, None, -1 if orientation.flip_columns else None)
    return np.ascontiguousarray(pixels[rows, columns])
