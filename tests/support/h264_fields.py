"""Interlaced H.264 of field pictures, two packets a frame, as AVCHD camcorders write it.

x264 has no such mode, so the bits are written here: ITU-T H.264, 7.3. Every macroblock is I_PCM,
the samples themselves.
"""

from __future__ import annotations

import numpy as np

__all__ = ["field_pictures"]

_I_PCM = 25
_SLICE_I = 7


class _Bits:
    def __init__(self) -> None:
        self._bits: list[str] = []
        self._length = 0

    def u(self, width: int, value: int) -> _Bits:
        if width:
            self._bits.append(f"{value:0{width}b}")
            self._length += width
        return self

    def ue(self, value: int) -> _Bits:
        width = (value + 1).bit_length()
        return self.u(2 * width - 1, value + 1)

    def align(self) -> _Bits:
        return self.u(-self._length % 8, 0)

    def raw(self, data: bytes) -> _Bits:
        return self.u(8 * len(data), int.from_bytes(data, "big"))

    def unit(self, kind: int, ref: int = 3) -> bytes:
        """A NAL unit in Annex B: with its stop bit, and no start codes inside."""
        self.u(1, 1).align()
        text = "".join(self._bits)
        payload = int(text, 2).to_bytes(len(text) // 8, "big")
        escaped, zeros = bytearray(), 0
        for byte in payload:
            if zeros >= 2 and byte <= 3:
                escaped.append(3)
                zeros = 0
            zeros = zeros + 1 if byte == 0 else 0
            escaped.append(byte)
        return b"\0\0\0\1" + bytes([ref << 5 | kind]) + bytes(escaped)


def field_pictures(pixels: np.ndarray) -> list[bytes]:
    """H.264 packets of grey frames uint8 [T, H, W, 3]; H and W are multiples of 16.

    Each frame is two packets: its even rows, then its odd ones. Joined they are a file.
    """
    grey = pixels.mean(3).astype(np.uint8)  # [T, H, W]
    count, height, width = grey.shape
    rows = -(-height // 32)  # of macroblocks in a field
    headers = _sequence(width, height, rows) + _picture_parameters()
    packets: list[bytes] = []
    for number in range(count):
        padded = np.pad(grey[number], ((0, 32 * rows - height), (0, 0)), mode="edge")
        for bottom in (0, 1):
            field = np.clip(padded[bottom::2], 1, 254)
            first = not packets
            unit = _field(field, number, bottom, first=first)
            packets.append(headers + unit if first else unit)
    return packets


def _picture_parameters() -> bytes:
    """One slice group, no references, quantiser 26, and slices that tell about deblocking."""
    bits = _Bits().ue(0).ue(0).u(2, 0).ue(0).ue(0).ue(0).u(3, 0).ue(0).ue(0).ue(0)
    return bits.u(1, 1).u(2, 0).unit(8)


def _sequence(width: int, height: int, rows: int) -> bytes:
    """The sequence parameters: main profile, fields, shown in the order of decoding."""
    bits = _Bits().u(8, 77).u(8, 0).u(8, 30).ue(0)
    bits.ue(0)  # frame numbers of 4 bits
    bits.ue(2)  # order of showing is that of decoding
    bits.ue(1).u(1, 0).ue(width // 16 - 1).ue(rows - 1)
    bits.u(1, 0).u(1, 0).u(1, 1)  # fields allowed, no mixture of them in a frame, 8x8 inference
    cropped = (32 * rows - height) // 4
    bits.u(1, 1).ue(0).ue(0).ue(0).ue(cropped)
    return bits.u(1, 0).unit(7)


def _field(field: np.ndarray, number: int, bottom: int, *, first: bool) -> bytes:
    bits = _Bits().ue(0).ue(_SLICE_I).ue(0).u(4, number % 16).u(1, 1).u(1, bottom)
    if first:
        bits.ue(0)  # idr_pic_id
    bits.u(2 if first else 1, 0)  # how references are marked
    bits.ue(0).ue(1)  # quantiser as set; no deblocking
    for top in range(0, field.shape[0], 16):
        for left in range(0, field.shape[1], 16):
            bits.ue(_I_PCM).align()
            bits.raw(field[top : top + 16, left : left + 16].tobytes() + b"\x80" * 128)
    return bits.unit(5 if first else 1)
