"""Errors that end a run; an error of one video is only a row."""

from __future__ import annotations

__all__ = ["ScreenError"]


class ScreenError(ValueError):
    """The videos cannot be screened; the message says what to do."""
