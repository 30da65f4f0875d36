"""Labelled clips to evaluate on: the demo's, a folder of classes, or a CSV of paths and labels."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopure.evaluation.store import EvaluationError
from videopure.evaluation.videos import find_videos, number_classes, read_video
from videopure.format.settings import Limits
from videopure.motions.clips import CLASSES, SPLITS, Stream
from videopure.motions.dataset import load_split
from videopure.purifier.recognisers import Recogniser

__all__ = ["ClipSource", "DemoClips", "VideoFiles", "open_source"]

DEFAULT_LIMITS = Limits()
_NAMED = 5  # faulty files named in an error


class ClipSource(ABC):
    """Clips of known classes, in a fixed order."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of clips."""

    @abstractmethod
    def load(self, start: int, count: int) -> tuple[Tensor, Tensor, list[str]]:
        """Clips [N, T, 3, H, W] in 0..1, their classes [N] and names."""

    @abstractmethod
    def describe(self) -> Any:
        """What distinguishes this source from others, ready for JSON."""

    @abstractmethod
    def check(self, clips: int) -> None:
        """Raise EvaluationError if the first `clips` cannot be evaluated."""


class DemoClips(ClipSource):
    """An endless stream of clips from a program, which the demo's models have not seen.

    Raises:
        EvaluationError: if the recogniser was not trained for them.
    """

    def __init__(self, recogniser: Recogniser, split: str = "test") -> None:
        if tuple(recogniser.labels) != CLASSES:
            raise EvaluationError(
                f"recogniser {recogniser.name!r} does not know the demo's classes: give your own "
                "clips with --data"
            )
        if split not in SPLITS:
            raise EvaluationError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self._stream = Stream(split)

    def __len__(self) -> int:
        return 1 << 40

    def load(self, start: int, count: int) -> tuple[Tensor, Tensor, list[str]]:
        """See `ClipSource.load`."""
        clips, labels = load_split(self._stream, start, count)
        names = [f"{self._stream.split} {i}" for i in range(start, start + count)]
        return clips, labels, names

    def describe(self) -> Any:
        """See `ClipSource.describe`."""
        return {"demo": self._stream.split}

    def check(self, clips: int) -> None:
        """Drawn clips need no check."""


class VideoFiles(ClipSource):
    """Video files with their classes.

    The order is shuffled with a fixed seed and alternates among the classes, so that the first
    clips, however many, show all classes equally.

    Args:
        files: path and class of each.
        recogniser: defines the frames that are taken, as in the server.
        limits: limits of the archive; a video beyond them is refused, as the server does.

    Raises:
        EvaluationError: if there are no files, or all are of one class.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path, int]],
        recogniser: Recogniser,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        if not files:
            raise EvaluationError("there are no labelled videos to evaluate on")
        if len({label for _, label in files}) < 2:
            raise EvaluationError(
                f"all {len(files)} videos are labelled {recogniser.labels[files[0][1]]!r}: an "
                "accuracy says nothing without a second class"
            )
        self._files = _take_turns(files, recogniser.labels)
        self._recogniser, self._limits = recogniser, limits

    def __len__(self) -> int:
        return len(self._files)

    def load(self, start: int, count: int) -> tuple[Tensor, Tensor, list[str]]:
        """See `ClipSource.load`."""
        chosen = self._files[start : start + count]
        clips = [read_video(path, self._recogniser, self._limits).frames for path, _ in chosen]
        labels = torch.tensor([label for _, label in chosen])
        return torch.stack(clips), labels, [str(path) for path, _ in chosen]

    def describe(self) -> Any:
        """See `ClipSource.describe`."""
        return {"files": [[str(path), label] for path, label in self._files]}

    def check(self, clips: int) -> None:
        """Decode all clips once: a damaged file is reported before hours of attacks, not after."""
        faults = []
        for path, _ in self._files[:clips]:
            try:
                read_video(path, self._recogniser, self._limits)
            except EvaluationError as error:
                faults.append(str(error))
        if faults:
            shown = "\n  ".join(faults[:_NAMED])
            more = f"\n  and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
            raise EvaluationError(
                f"{len(faults)} of {min(clips, len(self))} videos cannot be read; repair them or "
                f"take them out:\n  {shown}{more}"
            )


def open_source(
    data: str, recogniser: Recogniser, split: str = "test", limits: Limits = DEFAULT_LIMITS
) -> ClipSource:
    """The clips that a command names: `demo` and its split, a folder of classes, or a CSV.

    Videos are read for `recogniser` within `limits`, as a server of the archive reads them.
    """
    if data == "demo":
        return DemoClips(recogniser, split)
    if split != "test":
        raise EvaluationError(f"split is for the demo's clips, got {split!r} with data {data!r}")
    files = number_classes(find_videos(data, labelled=True), recogniser)
    return VideoFiles(files, recogniser, limits)


def _take_turns(files: Sequence[tuple[Path, int]], labels: Sequence[str]) -> list[tuple[Path, int]]:
    """Shuffled within each class, then one of each class in turn."""
    by_class: dict[int, list[Path]] = {}
    for path, label in sorted(files):
        by_class.setdefault(label, []).append(path)
    for label, paths in by_class.items():
        random.Random(labels[label]).shuffle(paths)
    most = max(map(len, by_class.values()))
    return [
        (paths[turn], label)
        for turn in range(most)
        for label, paths in by_class.items()
        if turn < len(paths)
    ]
