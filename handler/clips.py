"""Reads a recogniser's clip from a video: one function for server and evaluation.

Attacks, training and serving see the same clips only if they compute pixels the same way.
"""

from __future__ import annotations

from videopure.format.limits import Limits
from videopure.handler.decoder import ReadClip
from videopure.handler.video import Clip, Sampling, read_clip
from videopure.purifier import Recogniser

__all__ = ["read_for_recogniser"]


def read_for_recogniser(
    video: bytes,
    recogniser: Recogniser,
    limits: Limits,
    clips: int = 1,
    *,
    stride: float | None = None,
    phase: float | None = None,
    read: ReadClip = read_clip,
) -> Clip:
    """Decode the frames that a recogniser takes from a video, prepared for it.

    Args:
        video: content of the file.
        recogniser: defines number of frames, sampling and framing.
        limits: limits of the archive.
        clips, stride, phase: see `Sampling`.
        read: the function that decodes; a worker's runs in a separate process.

    Returns:
        The frames of all clips, [clips * T, 3, H, W] in 0..1.

    Raises:
        NotAVideoError, UnusableVideoError, TooLargeError: saying why.
    """
    sampling = Sampling(recogniser.num_frames, clips, stride, phase)
    return read(video, sampling, recogniser.framing, limits)
