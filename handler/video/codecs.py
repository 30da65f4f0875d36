"""Which codecs are decoded: a list, as FFmpeg has hundreds that are rarely used.

`CODECS` is the one list: docs/videos.md shows it. Other streams, such as sound, are not decoded at
all.
"""

from __future__ import annotations

import av

from videopure.handler.errors import NotAVideoError

__all__ = ["CODECS", "check_codec", "decoders"]

# FFmpeg's names, by their common names.
CODECS = {
    "H.264, H.265": ("h264", "hevc"),
    "AV1, VP9, VP8": ("av1", "vp9", "vp8"),
    "MPEG-1, MPEG-2, MPEG-4 part 2": ("mpeg1video", "mpeg2video", "mpeg4"),
    "Microsoft's MPEG-4, Windows Media, VC-1": (
        *("msmpeg4v1", "msmpeg4v2", "msmpeg4v3"),
        *("wmv1", "wmv2", "wmv3", "vc1"),
    ),
    "H.261, H.263, Sorenson Spark": ("h261", "h263", "h263p", "flv1"),
    "On2 VP6, Theora": ("vp6", "vp6a", "vp6f", "theora"),
    "RealVideo": ("rv10", "rv20", "rv30", "rv40"),
    "Sorenson Video, Cinepak": ("svq1", "svq3", "cinepak"),
    "DV, ProRes, DNxHD, CineForm, JPEG 2000": ("dvvideo", "prores", "dnxhd", "cfhd", "jpeg2000"),
    "Lossless: FFV1, HuffYUV, Ut Video": ("ffv1", "huffyuv", "ffvhuff", "utvideo"),
    "Pictures in turn: Motion JPEG, PNG, GIF": ("mjpeg", "png", "apng", "gif"),
    "Uncompressed, QuickTime Animation": ("rawvideo", "wrapped_avframe", "v210", "qtrle"),
}
_NAMES = {name for names in CODECS.values() for name in names}


def check_codec(name: str) -> None:
    """Raise NotAVideoError for a codec that is not on the list.

    Args:
        name: FFmpeg's name of the codec, which may have several decoders.
    """
    if name not in _NAMES:
        raise NotAVideoError(
            f"the video's codec is {name}, which is not supported: send H.264, H.265, VP9 or AV1"
        )


def decoders() -> str:
    """FFmpeg's `codec_whitelist`: the decoders of these codecs."""
    return ",".join(sorted(name for name in av.codecs_available if _codec_of(name) in _NAMES))


def _codec_of(decoder: str) -> str | None:
    try:
        return str(av.Codec(decoder, "r").canonical_name)
    except av.codec.codec.UnknownCodecError:  # an encoder
        return None
