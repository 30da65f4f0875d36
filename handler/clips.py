"""From a video to the clip that a recogniser takes: one function for server and evaluation.

What is attacked and trained on is what is served only if both come to their pixels the same way.
"""

from __future__ import annotations

from videopure.format.settings import Limits
from videopure.handler.video import Clip, read_clip
from videopure.purifier import Recogniser

__all__ = ["read_for_recogniser"]


def read_for_recogniser(
    video: bytes, recogniser: Recogniser, limits: Limits, clips: int = 1
) -> Clip:
    """Decode the frames that a recogniser takes from a video, prepared as it wants them.

    Args:
        video: the file.
        recogniser: whose number of frames, sampling and framing are used.
        limits: of the archive.
        clips: equal parts of the video that are each looked at. Frames spread evenly over the
            whole video, cut into runs of equal length, are what each part would give by itself.

    Returns:
        The frames of all clips, [clips * T, 3, H, W] in 0..1.

    Raises:
        NotAVideoError, UnusableVideoError, TooLargeError: saying why.
    """
    return read_clip(video, clips * recogniser.num_frames, recogniser.framing, limits)
