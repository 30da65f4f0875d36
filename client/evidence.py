"""The evidence: a video of what purification changed."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from videopure.wire.schemas import Answer

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence:
    """What purification changed.

    Args:
        video: an mp4: the clip as sent, purified, and their difference amplified, side by side.
        answer: as for a prediction.
    """

    video: bytes = field(repr=False)
    answer: Answer

    @classmethod
    def parse(cls, video: bytes) -> Evidence:
        """Read from the file, which holds the answer as `comment`; ValueError if it does not."""
        import av  # FFmpeg: needed only for evidence
        import av.error

        try:
            # Others, such as playlists, would open files and addresses that they name.
            options = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2", "protocol_whitelist": "none"}
            with av.open(io.BytesIO(video), mode="r", options=options) as container:
                comment = container.metadata.get("comment", "")
        except av.error.FFmpegError as error:
            raise ValueError(f"the evidence cannot be opened: {error}") from error
        return cls(video, Answer.model_validate_json(comment))
