"""Training clips: rendered once into a file, augmented anew every time they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rich.progress import track
from torch import Generator, Tensor
from torch.nn import functional as F

from videopure.motions.clips import CLASSES, FRAME_SIZE, NUM_FRAMES, Stream

__all__ = ["TrainingClips", "add_mixed_noise", "draw", "load_split", "mixed_noise", "vary"]

Bytes = NDArray[np.uint8]
_ENDLESS = 1 << 40  # clips of the stream that training draws from

# The classes that mirroring, transposing and reversing exchange.
_OPPOSITES = {
    "across": (("moves left", "moves right"), ("turns left", "turns right")),
    "transpose": (
        ("moves left", "moves up"),
        ("moves right", "moves down"),
        ("turns left", "turns right"),
    ),
    "time": (
        ("moves left", "moves right"),
        ("moves up", "moves down"),
        ("turns left", "turns right"),
        ("grows", "shrinks"),
    ),
}


def _label_map(change: str) -> Tensor:
    """The class that each class becomes."""
    mapped = list(range(len(CLASSES)))
    for one, other in _OPPOSITES[change]:
        a, b = CLASSES.index(one), CLASSES.index(other)
        mapped[a], mapped[b] = b, a
    return torch.tensor(mapped)


@dataclass(frozen=True)
class TrainingClips:
    """The first `count` clips of the training stream, with augmentation that maps labels.

    `frames` is uint8 [count, T, 3, H, W], `labels` int64 [count].
    """

    frames: Tensor
    labels: Tensor

    @classmethod
    def prepare(cls, folder: Path, count: int) -> TrainingClips:
        """Render the clips, or read them from `folder` if an earlier run left them there."""
        path = folder / f"clips-{count}.npy"
        stream = Stream("train")
        shape = (count, NUM_FRAMES, 3, FRAME_SIZE, FRAME_SIZE)
        if not path.exists():
            part = path.with_suffix(".part.npy")
            frames = open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
            for i in track(range(count), description="drawing clips"):
                frames[i] = stream.clip(i)[0].transpose(0, 3, 1, 2)  # [T, 3, H, W]
            frames.flush()
            part.replace(path)
        # Copy on write: the file is never changed, and torch gets the writable array it needs.
        frames = np.load(path, mmap_mode="c")
        return cls(torch.from_numpy(frames), torch.arange(count) % len(CLASSES))

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Random augmented clips: [B, T, 3, H, W] in 0..1, and their classes [B]."""
        picks = torch.randint(len(self.labels), (size,), generator=generator)
        clips, labels = zip(
            *(vary(self.frames[i], self.labels[i], generator) for i in picks.tolist()),
            strict=True,
        )
        return torch.stack(clips).float() / 255, torch.stack(labels)


def vary(frames: Tensor, label: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Mirror, transpose, reverse and recolour one clip uint8 [T, 3, H, W] at random."""
    mirror, transpose, reverse, negative = (torch.rand(4, generator=generator) < 0.5).tolist()
    if mirror:
        frames, label = frames.flip(3), _label_map("across")[label]
    if transpose:
        frames, label = frames.transpose(2, 3), _label_map("transpose")[label]
    if reverse:
        frames, label = frames.flip(0), _label_map("time")[label]
    if negative:
        frames = 255 - frames
    return frames[:, torch.randperm(3, generator=generator)], label


def draw(size: int, state: Bytes) -> tuple[Bytes, NDArray[np.int64], Bytes]:
    """Random augmented training clips, from a generator's state; as arrays, for other processes.

    Returns:
        Clips uint8 [B, T, 3, H, W], their classes [B], and the generator's state after them.
    """
    generator, stream = Generator(), Stream("train")
    generator.set_state(torch.from_numpy(state))
    clips, labels = [], []
    for number in torch.randint(_ENDLESS, (size,), generator=generator).tolist():
        frames, label = stream.clip(number)
        video = torch.from_numpy(frames).permute(0, 3, 1, 2)  # [T, 3, H, W]
        varied, changed = vary(video, torch.tensor(label), generator)
        clips.append(varied)
        labels.append(changed)
    after: Bytes = generator.get_state().numpy()
    return torch.stack(clips).numpy(), torch.stack(labels).numpy(), after


def load_split(stream: Stream, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Consecutive clips of a stream: [N, T, 3, H, W] in 0..1, and their classes [N]."""
    frames, labels = stream.batch(start, count)
    clips = torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() / 255  # [N, T, 3, H, W]
    return clips, torch.from_numpy(labels)


def mixed_noise(
    clip_shape: torch.Size | tuple[int, ...],
    generator: Generator,
    cells: tuple[int, ...] = (1, 2, 4),
) -> Tensor:
    """Gaussian noise [T, C, H, W] of unit variance, white or smooth in space and time.

    The smoothness is drawn for each clip: cells of one of `cells` pixels, and of 1, 2 or all
    frames.
    """
    frames, channels, height, width = clip_shape
    space = cells[int(torch.randint(len(cells), (1,), generator=generator))]
    time = (1, 2, frames)[int(torch.randint(3, (1,), generator=generator))]
    coarse = torch.randn(
        (1, channels, -(-frames // time), -(-height // space), -(-width // space)),
        generator=generator,
    )
    if space == 1 and time == 1:
        return coarse[0].transpose(0, 1)  # [T, C, H, W]
    smooth = F.interpolate(coarse, (frames, height, width), mode="trilinear")
    return (smooth / smooth.std())[0].transpose(0, 1)


def add_mixed_noise(clips: Tensor, max_sigma: float, generator: Generator) -> Tensor:
    """Clips [B, T, 3, H, W] with mixed noise of random strength up to `max_sigma`, in 0..1."""
    noisy = []
    for clip in clips:
        sigma = max_sigma * float(torch.rand(1, generator=generator))
        noisy.append(clip + sigma * mixed_noise(clip.shape, generator))
    return torch.stack(noisy).clamp(0, 1)
