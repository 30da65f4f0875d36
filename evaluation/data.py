"""Labelled clips to evaluate on: the demo's, a folder of classes, or a CSV of paths and labels."""

from __future__ import annotations

import csv
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopure.evaluation.store import EvaluationError
from videopure.format.settings import Limits
from videopure.handler.clips import read_for_recogniser
from videopure.handler.errors import RequestError
from videopure.motions.clips import CLASSES, SPLITS, Stream
from videopure.motions.dataset import load_split
from videopure.purifier.recognisers import Recogniser

__all__ = ["ClipSource", "DemoClips", "VideoFiles", "open_source", "read_csv", "read_folder"]

DEFAULT_LIMITS = Limits()
_NAMED = 5  # of many faulty files


class ClipSource(ABC):
    """Clips of known classes, in a fixed order."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def load(self, start: int, count: int) -> tuple[Tensor, Tensor, list[str]]:
        """Clips [N, T, 3, H, W] in 0..1, their classes [N] and what to call them."""

    @abstractmethod
    def describe(self) -> Any:
        """What tells this source from others, ready for JSON."""

    @abstractmethod
    def check(self, clips: int) -> None:
        """Raise EvaluationError if the first `clips` cannot be evaluated."""


class DemoClips(ClipSource):
    """Clips that the demo's models have not seen, drawn by a program; there is no end of them.

    Raises:
        EvaluationError: if the recogniser was not made for them.
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
        """Nothing can be wrong with what is drawn."""


class VideoFiles(ClipSource):
    """Video files with their class names.

    The order is shuffled with a fixed seed and then takes turns among the classes, so that any
    number of first clips shows all of them alike.

    Args:
        files: path and class name of each.
        recogniser: whose frames are taken, as the server takes them.
        limits: of the archive; the server refuses a video beyond them, and so does this.

    Raises:
        EvaluationError: if a label is unknown or all are the same.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path, str]],
        recogniser: Recogniser,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        if not files:
            raise EvaluationError("there are no labelled videos to evaluate on")
        known = {name: index for index, name in enumerate(recogniser.labels)}
        unknown = sorted({label for _, label in files if label not in known})
        if unknown:
            raise EvaluationError(
                f"recogniser {recogniser.name!r} does not know {_list(unknown)}; it knows "
                f"{_list(recogniser.labels)}"
            )
        if len({label for _, label in files}) < 2:
            raise EvaluationError(
                f"all {len(files)} videos are labelled {files[0][1]!r}: an accuracy says nothing "
                "without a second class"
            )
        self._files = [(path, known[label]) for path, label in _take_turns(files)]
        self._recogniser, self._limits = recogniser, limits

    def __len__(self) -> int:
        return len(self._files)

    def load(self, start: int, count: int) -> tuple[Tensor, Tensor, list[str]]:
        """See `ClipSource.load`."""
        chosen = self._files[start : start + count]
        clips = [self._read(path) for path, _ in chosen]
        labels = torch.tensor([label for _, label in chosen])
        return torch.stack(clips), labels, [str(path) for path, _ in chosen]

    def describe(self) -> Any:
        """See `ClipSource.describe`."""
        return {"files": [[str(path), label] for path, label in self._files]}

    def check(self, clips: int) -> None:
        """Decode all clips once: a fault is told before hours of attacks, not after."""
        faults = []
        for path, _ in self._files[:clips]:
            try:
                self._read(path)
            except EvaluationError as error:
                faults.append(str(error))
        if faults:
            shown = "\n  ".join(faults[:_NAMED])
            more = f"\n  and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
            raise EvaluationError(
                f"{len(faults)} of {min(clips, len(self))} videos cannot be read; repair them or "
                f"take them out:\n  {shown}{more}"
            )

    def _read(self, path: Path) -> Tensor:
        try:
            data = path.read_bytes()
            clip = read_for_recogniser(data, self._recogniser, self._limits)
        except (OSError, RequestError) as error:
            raise EvaluationError(f"{path}: {error}") from error
        return clip.frames


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
    path = Path(data)
    if path.is_dir():
        return read_folder(path, recogniser, limits)
    if path.suffix.lower() == ".csv":
        return read_csv(path, recogniser, limits)
    raise EvaluationError(f"data must be 'demo', a folder or a CSV file, got {data!r}")


def read_folder(
    folder: Path, recogniser: Recogniser, limits: Limits = DEFAULT_LIMITS
) -> VideoFiles:
    """Videos in one folder for each class, named like it: FOLDER/CLASS/VIDEO.

    Underscores in a folder's name may stand for spaces, and case is ignored, as in UCF-101 and
    Kinetics.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder} is not a folder")
    names = {_plain(label): label for label in recogniser.labels}
    files = [
        (path, names.get(_plain(sub.name), sub.name))
        for sub in sorted(folder.iterdir())
        if sub.is_dir()
        for path in sorted(sub.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]
    if not files:
        raise EvaluationError(f"{folder} holds no folders of videos, one for each class")
    return VideoFiles(files, recogniser, limits)


def read_csv(file: Path, recogniser: Recogniser, limits: Limits = DEFAULT_LIMITS) -> VideoFiles:
    """Videos named in a CSV with the columns `path` and `label`; paths are relative to the file.

    A label is a class name or its number.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{file} cannot be read: {error}") from error
    rows = csv.DictReader(text.splitlines())
    if not {"path", "label"} <= set(rows.fieldnames or ()):
        raise EvaluationError(
            f"{file} needs a first line that names the columns path and label, got "
            f"{', '.join(rows.fieldnames or ()) or 'nothing'}"
        )
    labels = recogniser.labels
    files = []
    for row in rows:
        label = (row["label"] or "").strip()
        if label not in labels and label.isdecimal() and int(label) < len(labels):
            label = labels[int(label)]
        files.append((file.parent / (row["path"] or ""), label))
    return VideoFiles(files, recogniser, limits)


def _take_turns(files: Sequence[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """Shuffled within each class, then one of each class after the other."""
    by_class: dict[str, list[Path]] = {}
    for path, label in sorted(files):
        by_class.setdefault(label, []).append(path)
    for label, paths in by_class.items():
        random.Random(label).shuffle(paths)
    most = max(map(len, by_class.values()))
    return [
        (paths[turn], label)
        for turn in range(most)
        for label, paths in by_class.items()
        if turn < len(paths)
    ]


def _plain(name: str) -> str:
    """A class name as folders write it."""
    return "".join(character for character in name.lower() if character.isalnum())


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
