"""The evidence: a video that shows what purification changed, for people to look at."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from videopure.wire.evidence import CAPTION, GAIN, GAP
from videopure.wire.schemas import Answer, Prediction

__all__ = ["evidence_video"]

_SMALLEST_HEIGHT = 192  # small frames are enlarged to at least this, by an integer factor
_SLOWEST, _FASTEST = 1.0, 30.0  # frames a second

Frames = NDArray[np.uint8]


def evidence_video(original: Tensor, purified: Tensor, answer: Answer) -> bytes:
    """An H.264 mp4 of original, purified and their amplified difference, side by side.

    It lasts as long as the original video; the JSON answer is in its metadata as `comment`.

    Args:
        original, purified: frames [T, 3, H, W] in 0..1.
        answer: content of the captions; a full answer.
    """
    difference = (0.5 + GAIN * (original - purified)).clamp(0, 1)
    panels = (
        (f"as sent: {_told(answer.undefended)}", original),
        (f"purified: {_told(answer.predictions[0])}", purified),
        (f"difference x{GAIN}", difference),
    )
    scale = max(1, -(-_SMALLEST_HEIGHT // original.shape[2]))
    strips = [_panel(_pixels(frames), caption, scale) for caption, frames in panels]
    gap = np.zeros((*strips[0].shape[:2], GAP, 3), np.uint8)
    side_by_side = np.concatenate((strips[0], gap, strips[1], gap, strips[2]), axis=2)
    return _encode(side_by_side, _rate(answer), answer.model_dump_json())


def _told(prediction: Prediction | None) -> str:
    if prediction is None or prediction.score is None:
        raise ValueError("the evidence needs a full answer")
    return f"{prediction.label} {prediction.score:.2f}"


def _pixels(frames: Tensor) -> Frames:
    """uint8 [T, H, W, 3] of frames [T, 3, H, W] in 0..1."""
    pixels: Frames = (frames * 255).round().byte().permute(0, 2, 3, 1).numpy()  # [T, H, W, 3]
    return pixels


def _panel(frames: Frames, caption: str, scale: int) -> Frames:
    """Enlarged frames under a caption."""
    large = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    head = np.full((CAPTION, large.shape[2], 3), 255, np.uint8)
    # The letters of this font are ASCII.
    text = caption.encode("ascii", "replace").decode()
    cv2.putText(head, text, (4, 21), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    heads = np.broadcast_to(head, (len(large), *head.shape))
    return np.concatenate((heads, large), axis=1)


def _rate(answer: Answer) -> Fraction:
    """The frame rate at which the sampled frames last as long as the whole video."""
    video = answer.video
    rate = (video.fps or 8.0) * len(video.frame_indices) / video.frames
    return Fraction(min(_FASTEST, max(_SLOWEST, rate))).limit_denominator(1000)


def _encode(frames: Frames, rate: Fraction, comment: str) -> bytes:
    file = io.BytesIO()
    # H.264 halves the colour planes, so the size has to be even.
    height, width = (side + side % 2 for side in frames.shape[1:3])
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = comment
        # Without x264's macroblock tree, which is not reproducible on AVX-512.
        options = {"crf": "18", "mbtree": "0"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for image in frames:
            padded = np.zeros((height, width, 3), np.uint8)
            padded[: image.shape[0], : image.shape[1]] = image
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
