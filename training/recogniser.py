"""Training of small recognisers: the demo's, and one on your own videos to try things with.

    python -m videopure.training.recogniser VIDEOS recogniser

VIDEOS holds a folder of videos for each class. It is for walking through the next steps; train a
good recogniser with a library for that, such as transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol

import torch
import typer
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from videopure.evaluation.videos import find_videos, number_classes
from videopure.format.settings import Limits
from videopure.motions.bundle_files import save_recogniser
from videopure.motions.clips import Stream
from videopure.motions.dataset import add_mixed_noise, load_split
from videopure.purifier import NetworkRecogniser, Recogniser
from videopure.purifier.networks.motion_recogniser import MotionResNet3d
from videopure.training.ahead import Ahead
from videopure.training.decoded import decode_videos
from videopure.training.fine_tuning import for_classes, save_fine_tuned
from videopure.training.loop import StageLog, step_generator, train_steps
from videopure.training.precision import computing_in

__all__ = ["RecogniserRecipe", "accuracy", "train_recogniser"]


class Clips(Protocol):
    """Clips with their classes."""

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Clips drawn at random, [B, T, 3, H, W] in 0..1, and their classes [B]."""


@dataclass(frozen=True)
class RecogniserRecipe:
    """How a recogniser is trained; noise sigma is in units of the 0..1 pixel range."""

    seed: int
    steps: int
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    max_noise_sigma: float = 0.02
    noise_ramp: float = 0.3  # share of the steps over which the noise grows to its maximum


def train_recogniser(
    network: nn.Module,
    clips: Clips,
    recipe: RecogniserRecipe,
    checkpoint: Path,
    name: str,
    device: torch.device,
    half: torch.dtype | None = None,
    threads: int = 1,
) -> StageLog:
    """Train a recogniser in place on clean and noisy clips.

    Args:
        network: takes frames [B, T, 3, H, W] in 0..1, returns logits.
        clips: clips to train on.
        recipe: how to train.
        checkpoint: file; a stopped run resumes from it.
        name: shown next to the progress bar.
        device: device to train on.
        half: see `half_dtype`.
        threads: threads that make batches ahead; with 0 each is made when it is due.
    """
    network.to(device).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.15
    )

    def draw(index: int) -> tuple[Tensor, Tensor]:
        generator = step_generator(recipe.seed, index)
        frames, labels = clips.batch(recipe.batch, generator)
        ramp = min(1.0, index / (recipe.noise_ramp * recipe.steps))
        assert labels is not None
        return add_mixed_noise(frames, ramp * recipe.max_noise_sigma, generator), labels

    ahead = Ahead(draw, recipe.steps, threads)

    def step(index: int) -> dict[str, float]:
        frames, labels = (part.to(device) for part in ahead.take(index))
        with computing_in(half, device):
            logits = network(frames)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        skipped = not bool(torch.isfinite(norm))
        if not skipped:  # bfloat16 overflows once in a while; one such step would ruin the weights
            optimizer.step()
        schedule.step()
        hits = (logits.argmax(1) == labels).float().mean()
        loss = torch.zeros_like(loss) if skipped else loss.detach()
        return {"loss": float(loss), "accuracy": float(hits), "skipped": float(skipped)}

    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    try:
        log = train_steps(name, recipe.steps, step, parts, checkpoint)
    finally:
        ahead.close()
    network.eval()
    return log


@torch.no_grad()
def accuracy(
    classify: Callable[[Tensor], Tensor], stream: Stream, count: int, batch: int = 20
) -> float:
    """Share of the stream's first clips that `classify` (frames -> logits) gets right."""
    hits = 0
    for start in range(0, count, batch):
        frames, labels = load_split(stream, start, min(batch, count - start))
        hits += int((classify(frames).argmax(1).cpu() == labels).sum())
    return hits / count


def _new(
    name: str, classes: list[str], frames: int, size: int, width: int
) -> tuple[Recogniser, Callable[[Path], object]]:
    """A small recogniser with random weights, and what writes it into a folder."""
    network = MotionResNet3d(len(classes), width=width)
    recogniser = NetworkRecogniser(network, name, frames, (size, size), classes)

    def save(out: Path) -> None:
        save_recogniser(
            network,
            name,
            {"width": width},
            out,
            num_frames=frames,
            frame_size=(size, size),
            labels=classes,
        )

    return recogniser, save


def _started(folder: Path, classes: Sequence[str]) -> tuple[Recogniser, Callable[[Path], object]]:
    """A transformers recogniser to go on from, and what writes it into a folder."""
    try:
        recogniser = for_classes(folder, classes)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--start") from error
    return recogniser, partial(save_fine_tuned, recogniser, folder)


def main(
    videos: Annotated[Path, typer.Argument(help="Folder with one folder of videos per class.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    start: Annotated[
        Path | None,
        typer.Option(
            help="Transformers folder to fine-tune, with its own frames and size; a small "
            "recogniser is made where none is given."
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=2, help="Frames per clip, of a new one.")] = 16,
    size: Annotated[int, typer.Option(help="Height and width of the frames, of a new one.")] = 64,
    width: Annotated[int, typer.Option(help="Channels of the first layers, of a new one.")] = 32,
    steps: Annotated[int, typer.Option(min=2, help="Steps of 16 clips each.")] = 300,
    rate: Annotated[float, typer.Option(help="Learning rate at its highest.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode, and threads that make batches.")
    ] = 1,
) -> None:
    """Train a small recogniser for your own classes, or fine-tune one of transformers."""
    files = find_videos(videos, labelled=True)
    classes = sorted({str(file.label) for file in files})
    torch.manual_seed(seed)
    recogniser, save = (
        _new(out.name, classes, frames, size, width) if start is None else _started(start, classes)
    )
    place = out.with_name(f"{out.name}.training")
    numbered = number_classes(files, recogniser)
    clips = decode_videos(
        *([path for path, _ in numbered], recogniser, place / "clips"),
        limits=Limits(),
        workers=workers,
    )
    clips = replace(clips, labels=torch.tensor([number for _, number in numbered]))
    recipe = RecogniserRecipe(
        seed=seed, steps=steps, batch=16, learning_rate=rate, max_noise_sigma=0.015
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = place / "checkpoint.pt"
    train_recogniser(recogniser, clips, recipe, checkpoint, "recogniser", device, threads=workers)
    shown, labels = clips.validation(len(clips.held_out))
    with torch.no_grad():
        hits = int((recogniser.cpu()(shown).argmax(1) == labels).sum())
    save(out)
    print(f"{out}: {hits} of {len(shown)} held-out videos are recognised")
    for fault in clips.skipped:
        print(f"Skipped: {fault}")


if __name__ == "__main__":
    typer.run(main)
