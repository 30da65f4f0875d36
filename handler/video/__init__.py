"""Decodes a video to the clip that the recogniser takes.

One reader for the handler, the evaluation and `videopure purify`: docs/videos.md says what it reads
and how. It takes bytes and plain arguments; imports PyAV and nothing of TorchServe.
"""

from videopure.handler.video.clips import Clip, Sampling, read_clip

__all__ = ["Clip", "Sampling", "read_clip"]
