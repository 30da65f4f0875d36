"""The show of `make demo`, its sample videos, and the recipe of its models.

May import launcher, training, evaluation, motions, archive, handler, format, purifier, client and
wire.
"""

from pathlib import Path

__all__ = ["SAMPLES"]

# Videos to send to a server of the demo's models; `videopure.demo.samples` writes new ones.
SAMPLES = Path(__file__).parent / "sample_clips"
