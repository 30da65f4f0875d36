"""The clip program of ten motions, and the small models trained on its clips.

May import archive, handler, format, purifier and wire.
"""

from pathlib import Path

__all__ = ["BUNDLE", "CONTROL", "HARDENED"]

# Trained models in the package: those of VideoPure as published,
BUNDLE = Path(__file__).parent / "bundle"
# those that the demo serves, hardened against attackers who have all of their weights,
HARDENED = BUNDLE / "hardened"
# and a recogniser that was hardened without a purifier, to compare with.
CONTROL = BUNDLE / "control"
