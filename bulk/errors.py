"""What ends a run; what is wrong with one video is a row of its own."""

from __future__ import annotations

__all__ = ["ScreenError"]


class ScreenError(ValueError):
    """The videos cannot be screened; the message says what to do."""
