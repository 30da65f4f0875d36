"""From a video to the clip that a recogniser takes: one function for server and evaluation.

What is attacked and trained on is what is served only if both come to their pixels the same way.
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
    """Decode the frames that a recogniser takes from a video, prepared as it wants them.

    Args:
        video: the file.
        recogniser: whose number of frames, sampling and framing are used.
        limits: of the archive.
        clips, stride, phase: see `Sampling`.
        read: what decodes; a worker's is a process of its own.

    Returns:
        The frames of all clips, [clips * T, 3, H, W] in 0..1.

    Raises:
        NotAVideoError, UnusableVideoError, TooLargeError: saying why.
    """
    sampling = Sampling(recogniser.num_frames, clips, stride, phase)
    return read(video, sampling, recogniser.framing, limits)
