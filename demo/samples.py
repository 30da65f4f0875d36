"""Sample videos to send with curl: `python -m videopure.demo.samples`.

Pairs of a clean and an attacked clip as lossless mp4 files. An attack on pixels hardly survives a
lossy codec, so they are stored in RGB without loss. `tests/integration/demo/test_samples.py` shows
that the decoded clips still fool the bare recogniser.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from videopure.demo import SAMPLES
from videopure.evaluation.attacks.losses import label_loss
from videopure.evaluation.attacks.pgd import pgd
from videopure.motions import BUNDLE
from videopure.motions.clips import CLASSES, Stream, write_video
from videopure.motions.dataset import load_split
from videopure.purifier import load_recogniser

__all__ = ["to_pixels", "write_samples"]

# Far from the clips that the evaluation uses, one class each.
FIRST = 100_000
EPSILON = 8 / 255


def write_samples(folder: Path, bundle: Path, names: tuple[str, ...]) -> list[Path]:
    """Write `NAME-clean.mp4` and `NAME-attacked.mp4` for one clip of each named class.

    The attack is PGD-10 at 8/255 on the bare recogniser of the bundle.

    Raises:
        ValueError: if there is no such class.
    """
    unknown = [name for name in names if name not in CLASSES]
    if unknown:
        raise ValueError(f"names must be of {', '.join(CLASSES)}, got {unknown[0]!r}")
    recogniser = load_recogniser(bundle / "recogniser")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        clip, label = load_split(Stream("test"), FIRST + CLASSES.index(name), 1)
        attacked = pgd(
            label_loss(recogniser.logits, label),
            clip,
            epsilon=EPSILON,
            generator=torch.Generator().manual_seed(0),
        )
        for kind, frames in (("clean", clip), ("attacked", attacked)):
            path = folder / f"{name.replace(' ', '-')}-{kind}.mp4"
            written.append(write_video(to_pixels(frames[0]), path))
    return written


def to_pixels(clip: Tensor) -> np.ndarray:
    """uint8 frames [T, H, W, 3] of a clip [T, 3, H, W] in 0..1."""
    return (clip * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()  # [T, H, W, 3]


def main(
    folder: Annotated[Path, typer.Option(help="Where to write them.")] = SAMPLES,
    bundle: Annotated[Path, typer.Option(help="Bundle of the recogniser to attack.")] = BUNDLE,
    classes: Annotated[list[str] | None, typer.Option(help="Class to show; repeatable.")] = None,
) -> None:
    """Write new sample videos."""
    names = tuple(classes or ("moves left", "turns right", "grows"))
    for path in write_samples(folder, bundle, names):
        print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    typer.run(main)
