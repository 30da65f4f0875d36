"""Clips to train on: an endless stream from the motions' program, or video files."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NoReturn

import torch
from torch import Generator, Tensor

from videopure.evaluation.videos import ClipError, find_videos, number_classes, read_video
from videopure.format.settings import Limits
from videopure.motions.clips import CLASSES, Stream
from videopure.motions.dataset import draw, load_split
from videopure.purifier import Recogniser

__all__ = ["ClipError", "MotionClips", "VideoClips", "open_clips"]

_HELD_OUT = 10  # one file in this many is for validation
_KEPT = 1 << 30  # bytes of decoded clips in memory
DEFAULT_LIMITS = Limits()


class MotionClips:
    """Clips of the motions' program, each seen once, mirrored, turned and recoloured at random.

    Args:
        recogniser: the recogniser that is trained on them.
        workers: processes that draw clips, and threads that may ask for batches; 0 draws them in
            this process. The clips are the same.
    """

    def __init__(self, recogniser: Recogniser, workers: int = 0) -> None:
        if tuple(recogniser.labels) != CLASSES:
            raise ClipError(
                f"recogniser {recogniser.name!r} does not know the classes of the demo's clips: "
                "name a folder or a CSV of your own"
            )
        self._validation = Stream("validation")
        # A forked process cannot use a GPU's driver once its parent has used it.
        self._pool = (
            ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))
            if workers
            else None
        )

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """See `LabelledClips.batch`."""
        asked = (size, generator.get_state().numpy())
        drawn = self._pool.submit(draw, *asked).result() if self._pool else draw(*asked)
        frames, labels, state = map(torch.from_numpy, drawn)
        generator.set_state(state)
        return frames.float() / 255, labels

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def validation(self, count: int) -> tuple[Tensor, Tensor]:
        """See `LabelledClips.validation`."""
        return load_split(self._validation, 0, count)


class VideoClips:
    """Video files, read as the server reads them; one in ten is held out for validation.

    A file that cannot be read is skipped, and another one is used instead. Decoded clips stay in
    memory as long as they take no more than a gibibyte.

    Args:
        files: path and class of each; if all classes are None, the recogniser's own answers are the
            classes.
        recogniser: defines the frames that are taken.
        limits: limits of the archive; a video beyond them is refused, as the server does.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path, int | None]],
        recogniser: Recogniser,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        if len(files) < 2:
            raise ClipError(f"there must be at least 2 videos to train on, got {len(files)}")
        shuffled = sorted(files, key=lambda file: str(file[0]))
        random.Random(0).shuffle(shuffled)
        held_out = max(1, len(shuffled) // _HELD_OUT)
        self._validation, self._training = shuffled[:held_out], shuffled[held_out:]
        self._recogniser, self._limits = recogniser, limits
        # What is wrong with each video skipped so far.
        self.skipped: dict[Path, str] = {}
        self._kept: dict[Path, Tensor] = {}  # uint8 [T, 3, H, W]
        self._free = _KEPT

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """See `LabelledClips.batch`."""
        picks = torch.randint(len(self._training), (size,), generator=generator).tolist()
        return _stack([self._next_good(pick) for pick in picks])

    def validation(self, count: int) -> tuple[Tensor, Tensor | None]:
        """See `LabelledClips.validation`."""
        read = [self._read(*file) for file in self._validation[:count]]
        good = [clip for clip in read if clip is not None]
        return _stack(good or [self._failed(self._validation)])

    def close(self) -> None:
        """Do nothing: nothing is left open."""

    def _next_good(self, pick: int) -> tuple[Tensor, int | None]:
        """The first training video from `pick` on that can be read."""
        files = self._training
        for path, label in (*files[pick:], *files[:pick]):
            clip = self._read(path, label)
            if clip is not None:
                return clip
        return self._failed(files)

    def _read(self, path: Path, label: int | None) -> tuple[Tensor, int | None] | None:
        if path in self.skipped:
            return None
        frames = self._kept.get(path)
        if frames is None:
            try:
                clip = read_video(path, self._recogniser, self._limits)
            except ClipError as error:
                self.skipped[path] = str(error)
                return None
            frames = (clip.frames * 255).round().byte()
            if frames.nbytes <= self._free:
                self._kept[path] = frames
                self._free -= frames.nbytes
        return frames.float() / 255, label

    def _failed(self, files: Sequence[tuple[Path, int | None]]) -> NoReturn:
        first = self.skipped[files[0][0]]
        raise ClipError(f"none of {len(files)} videos can be read; the first one: {first}")


def open_clips(
    data: str,
    recogniser: Recogniser,
    *,
    labelled: bool = True,
    limits: Limits = DEFAULT_LIMITS,
    workers: int = 0,
) -> MotionClips | VideoClips:
    """The clips that a command names.

    Args:
        data: `demo`, or what `find_videos` takes.
        recogniser: the recogniser that is trained, or trained for.
        labelled: if False, the recogniser's own answers are the classes.
        limits: the archive's limits, for videos.
        workers: processes that draw the demo's clips.

    Raises:
        ClipError: naming what cannot be used.
    """
    if data == "demo":
        return MotionClips(recogniser, workers)
    files = find_videos(data, labelled=labelled)
    if not labelled:
        return VideoClips([(file.path, None) for file in files], recogniser, limits)
    return VideoClips(number_classes(files, recogniser), recogniser, limits)


def _stack(read: Sequence[tuple[Tensor, int | None]]) -> tuple[Tensor, Tensor | None]:
    labels = [label for _, label in read if label is not None]
    return torch.stack([clip for clip, _ in read]), torch.tensor(labels) if labels else None
