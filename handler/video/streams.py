"""Chooses the video stream of a file: one rule for the handler, `purify` and the evaluation."""

from __future__ import annotations

from typing import Any

import av

from videopure.handler.errors import NotAVideoError, UnusableVideoError
from videopure.handler.video.codecs import check_codec

__all__ = ["choose_stream"]


def choose_stream(container: Any) -> tuple[Any, list[str]]:
    """The video stream that players show, and warnings about other streams.

    Cover pictures and thumbnails do not count. Of the others the first moving one is used, those
    flagged as default first: the still of an animated AVIF is not its animation.

    Raises:
        NotAVideoError, UnusableVideoError: if there is none, or its codec is unknown or not read.
    """
    flags = av.stream.Disposition
    hidden = flags.attached_pic | flags.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & hidden]
    if not streams:
        raise NotAVideoError(f"the {container.format.name} file has no video stream")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise UnusableVideoError("the video's codec is unknown, or its header is damaged")
    moving = [stream for stream in known if stream.frames != 1] or known
    default = [stream for stream in moving if stream.disposition & flags.default] or moving
    chosen = default[0]
    check_codec(chosen.codec_context.codec.canonical_name)
    if len(moving) == 1:
        return chosen, []
    return chosen, [
        f"the file has {len(moving)} video streams: the one that players show, stream "
        f"{chosen.index}, was used and no other"
    ]
