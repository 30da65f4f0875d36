"""The demo: clips made by a program, small models trained on them, and a show of both."""

from pathlib import Path

__all__ = ["BUNDLE"]

# The trained models that come with the package.
BUNDLE = Path(__file__).parent / "bundle"
