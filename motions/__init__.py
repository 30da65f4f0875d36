"""The clip program of ten motions, and the small models trained on its clips.

May import archive, handler, format, purifier and wire.
"""

from pathlib import Path

__all__ = ["BUNDLE", "CONTROL", "HARDENED"]

# The trained models that come with the package: those of VideoPure as it was published,
BUNDLE = Path(__file__).parent / "bundle"
# those that are trained against attackers who have them, which the demo serves,
HARDENED = BUNDLE / "hardened"
# and a recogniser that is trained so without a purifier, which a purifier has to surpass.
CONTROL = BUNDLE / "control"
