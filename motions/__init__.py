"""The clip program of ten motions, and the small models trained on its clips.

Imports `videopure.purifier` alone; evaluation, training and the demo are built on it.
"""

from pathlib import Path

__all__ = ["BUNDLE"]

# The trained models that come with the package.
BUNDLE = Path(__file__).parent / "bundle"
