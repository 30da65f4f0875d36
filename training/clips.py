"""Clips to train on: those of the motions' program without end, or video files."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from videopure.format.settings import Limits
from videopure.handler.clips import read_for_recogniser
from videopure.handler.errors import RequestError
from videopure.motions.clips import CLASSES, Stream
from videopure.motions.dataset import load_split, vary
from videopure.purifier import Recogniser

__all__ = ["ClipError", "MotionClips", "VideoClips", "open_clips"]

_ENDLESS = 1 << 40  # clips of the program that training draws from
_HELD_OUT = 10  # one file in so many is for validation
DEFAULT_LIMITS = Limits()


class ClipError(ValueError):
    """There are no such clips to train on; the message says what to do."""


class MotionClips:
    """Clips of the motions' program, each seen once, mirrored, turned and recoloured at random."""

    def __init__(self, recogniser: Recogniser) -> None:
        if tuple(recogniser.labels) != CLASSES:
            raise ClipError(
                f"recogniser {recogniser.name!r} does not know the classes of the demo's clips: "
                "name a folder or a CSV of your own"
            )
        self._training, self._validation = Stream("train"), Stream("validation")

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """See `LabelledClips.batch`."""
        clips, labels = [], []
        for number in torch.randint(_ENDLESS, (size,), generator=generator).tolist():
            frames, label = self._training.clip(number)
            video = torch.from_numpy(frames).permute(0, 3, 1, 2)  # [T, 3, H, W]
            varied, changed = vary(video, torch.tensor(label), generator)
            clips.append(varied)
            labels.append(changed)
        return torch.stack(clips).float() / 255, torch.stack(labels)

    def validation(self, count: int) -> tuple[Tensor, Tensor]:
        """See `LabelledClips.validation`."""
        return load_split(self._validation, 0, count)


class VideoClips:
    """Video files, read as the server reads them; one in ten is held out for validation.

    Args:
        files: path and class of each; None instead of a class, for all, leaves the classes to the
            recogniser's own answers.
        recogniser: whose frames are taken.
        limits: of the archive; the server refuses a video beyond them, and so does this.
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

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """See `LabelledClips.batch`."""
        picks = torch.randint(len(self._training), (size,), generator=generator).tolist()
        return self._read([self._training[pick] for pick in picks])

    def validation(self, count: int) -> tuple[Tensor, Tensor | None]:
        """See `LabelledClips.validation`."""
        return self._read(self._validation[:count])

    def _read(self, files: Sequence[tuple[Path, int | None]]) -> tuple[Tensor, Tensor | None]:
        clips = torch.stack([self._read_one(path) for path, _ in files])
        labels = [label for _, label in files if label is not None]
        return clips, torch.tensor(labels) if labels else None

    def _read_one(self, path: Path) -> Tensor:
        try:
            return read_for_recogniser(path.read_bytes(), self._recogniser, self._limits).frames
        except (OSError, RequestError) as error:
            raise ClipError(f"{path}: {error}") from error


def open_clips(
    data: str,
    recogniser: Recogniser,
    *,
    labelled: bool = True,
    limits: Limits = DEFAULT_LIMITS,
) -> MotionClips | VideoClips:
    """The clips that a command names.

    Args:
        data: `demo`; a folder of videos, with a folder for each class where they are labelled; or
            a CSV with the columns `path` and, where they are labelled, `label`.
        recogniser: that is trained, or trained for.
        labelled: False leaves the classes to the recogniser's own answers.
        limits: of the archive, for videos.

    Raises:
        ClipError: naming what cannot be used.
    """
    if data == "demo":
        return MotionClips(recogniser)
    path = Path(data)
    if path.is_dir():
        files = _of_folder(path, labelled)
    elif path.suffix.lower() == ".csv" and path.is_file():
        files = _of_csv(path, labelled)
    else:
        raise ClipError(f"clips must be 'demo', a folder or a CSV file, got {data!r}")
    numbered = [(file, _number(label, recogniser)) for file, label in files]
    return VideoClips(numbered, recogniser, limits)


def _of_folder(folder: Path, labelled: bool) -> list[tuple[Path, str | None]]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    if not labelled:
        return [(file, None) for file in files]
    loose = [file for file in files if file.parent == folder]
    if loose:
        raise ClipError(
            f"{loose[0]} lies in no folder of a class: put it into one, or leave the classes to "
            "the recogniser's own answers with --unlabelled"
        )
    return [(file, file.relative_to(folder).parts[0]) for file in files]


def _of_csv(file: Path, labelled: bool) -> list[tuple[Path, str | None]]:
    try:
        rows = csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"{file} cannot be read: {error}") from error
    wanted = {"path", "label"} if labelled else {"path"}
    if not wanted <= set(rows.fieldnames or ()):
        raise ClipError(
            f"{file} needs a first line that names {' and '.join(sorted(wanted))}, got "
            f"{', '.join(rows.fieldnames or ()) or 'nothing'}"
        )
    return [
        (file.parent / (row["path"] or ""), (row["label"] or "").strip() if labelled else None)
        for row in rows
    ]


def _number(label: str | None, recogniser: Recogniser) -> int | None:
    """The class of a label: its name, as folders may write it, or its number."""
    if label is None:
        return None
    names = {_plain(name): number for number, name in enumerate(recogniser.labels)}
    if _plain(label) in names:
        return names[_plain(label)]
    if label.isdecimal() and int(label) < len(names):
        return int(label)
    raise ClipError(f"recogniser {recogniser.name!r} does not know the class {label!r}")


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
