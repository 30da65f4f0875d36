"""Finds and reads the videos that a command names, with or without classes."""

from __future__ import annotations

import csv
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from videopure.evaluation.store import EvaluationError
from videopure.format.settings import Limits
from videopure.handler.clips import read_for_recogniser
from videopure.handler.decoder import ReadClip
from videopure.handler.errors import RequestError
from videopure.handler.video import Clip, read_clip
from videopure.purifier import Recogniser

__all__ = ["ClipError", "VideoFile", "find_videos", "in_words", "number_classes", "read_video"]

_NAMED = 5  # names listed in an error


class ClipError(EvaluationError):
    """There are no such clips, or one cannot be read; the message says what to do."""


class VideoFile(NamedTuple):
    """A video and the name of its class; None if the videos have no labels."""

    path: Path
    label: str | None = None


def find_videos(data: str | Path, *, labelled: bool) -> list[VideoFile]:
    """The videos of a folder, a CSV or a list, in the order of their names or lines.

    Args:
        data: a folder, with a folder of videos for each class where they are labelled; a CSV with
            the columns `path` and, where they are labelled, `label`; or, without labels, a `.txt`
            with one path per line. Paths are relative to the file. Hidden files are ignored.
        labelled: whether each has a class.

    Raises:
        ClipError: naming what cannot be used.
    """
    path = Path(data)
    suffix = path.suffix.lower()
    if path.is_dir():
        return _of_folder(path, labelled)
    if suffix == ".csv":
        return _of_csv(path, labelled)
    if suffix == ".txt" and not labelled:
        lines = (line.strip() for line in _read_lines(path))
        return [VideoFile(path.parent / line) for line in lines if line]
    listed = "" if labelled else ", a list (.txt)"
    raise ClipError(f"clips must be 'demo', a folder{listed} or a CSV file, got {str(data)!r}")


def number_classes(files: Sequence[VideoFile], recogniser: Recogniser) -> list[tuple[Path, int]]:
    """The files with their classes as the recogniser numbers them.

    A label is the name of a class or its number. Case and anything but letters and
    digits are ignored: folders are called `playing_guitar` or `PlayingGuitar` (Kinetics, UCF-101).

    Raises:
        ClipError: naming labels that it does not know.
    """
    numbers = {str(number): number for number in range(len(recogniser.labels))}
    numbers |= {_plain(name): number for number, name in enumerate(recogniser.labels)}
    numbers |= {name: number for number, name in enumerate(recogniser.labels)}
    found: list[tuple[Path, int]] = []
    unknown = set()
    for path, label in files:
        number = numbers.get(label or "", numbers.get(_plain(label)))
        if number is None:
            unknown.add(str(label))
        else:
            found.append((path, number))
    if unknown:
        raise ClipError(
            f"recogniser {recogniser.name!r} does not know {in_words(sorted(unknown))}; it knows "
            f"{in_words(recogniser.labels)}"
        )
    return found


def read_video(
    path: Path,
    recogniser: Recogniser,
    limits: Limits,
    *,
    clips: int = 1,
    read: ReadClip = read_clip,
) -> Clip:
    """The frames of a video that a server gives the recogniser.

    Args:
        path: path of the video.
        recogniser: defines the frames that are taken.
        limits: limits of the archive; a video beyond them is refused, as the server does.
        clips: take this many times the frames, spread evenly over the whole video.
        read: the function that decodes.

    Raises:
        ClipError: naming the file, and saying what is wrong with it.
    """
    try:
        return read_for_recogniser(path.read_bytes(), recogniser, limits, clips, read=read)
    except (OSError, RequestError) as error:
        raise ClipError(f"{path}: {error}") from error


def in_words(names: Sequence[str]) -> str:
    """Some of the names in quotes, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _of_folder(folder: Path, labelled: bool) -> list[VideoFile]:
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    if not labelled:
        return [VideoFile(file) for file in files]
    for file in files:
        if file.parent == folder and _is_video(file):
            raise ClipError(
                f"{file} is not in a class folder: {folder} must hold a folder of videos for "
                "each class"
            )
    inside = [file for file in files if file.parent != folder]
    if not inside:
        raise ClipError(f"{folder} holds no folders of videos, one for each class")
    return [VideoFile(file, file.relative_to(folder).parts[0]) for file in inside]


def _is_video(file: Path) -> bool:
    """Whether a file is a video by its name; there may be text files next to the folders."""
    kind = mimetypes.guess_type(file.name)[0] or ""
    return kind.startswith("video/") or kind == "image/gif"


def _of_csv(file: Path, labelled: bool) -> list[VideoFile]:
    rows = csv.DictReader(_read_lines(file))
    wanted = ["path", "label"] if labelled else ["path"]
    if not set(wanted) <= set(rows.fieldnames or ()):
        columns = f"column{'s' * labelled} {' and '.join(wanted)}"
        raise ClipError(
            f"{file} needs a first line that names the {columns}, got "
            f"{', '.join(rows.fieldnames or ()) or 'nothing'}"
        )
    return [
        VideoFile(
            file.parent / (row["path"] or ""),
            (row["label"] or "").strip() if labelled else None,
        )
        for row in rows
    ]


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"{file} cannot be read: {error}") from error


def _plain(name: str | None) -> str:
    """A class name as folders write it: letters and digits."""
    return "".join(character for character in (name or "").lower() if character.isalnum())
