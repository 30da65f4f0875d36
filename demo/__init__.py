"""The demo: clips made by a program, small models trained on them, and a show of both."""

from pathlib import Path

__all__ = ["BUNDLE", "SAMPLES"]

# The trained models that come with the package.
BUNDLE = Path(__file__).parent / "bundle"
# Videos to send to a server of them; `videopure.demo.samples` writes new ones.
SAMPLES = Path(__file__).parent / "sample_clips"
