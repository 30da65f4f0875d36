"""The clip program of ten motions, and the small models trained on its clips.

May import archive, handler, format, purifier and wire.
"""

from pathlib import Path

__all__ = ["BUNDLE"]

# The trained models that come with the package.
BUNDLE = Path(__file__).parent / "bundle"
