"""The evidence video's layout: three panels side by side.

From left to right: the clip as sent, purified, and their difference amplified. Each panel stands
under a caption, and gaps separate the panels.
"""

from __future__ import annotations

__all__ = ["CAPTION", "GAIN", "GAP"]

CAPTION = 32  # pixels above each panel
GAP = 8  # pixels between panels
GAIN = 8  # the difference is amplified by this factor
