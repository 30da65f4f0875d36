"""Videos, decoded once into a file, from which training takes its clips."""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Generator, Tensor

from videopure.evaluation.store import disk_faults
from videopure.evaluation.videos import ClipError, read_video
from videopure.format.settings import Limits
from videopure.handler.decoder import Decoder
from videopure.handler.video import Clip, Sampling, read_clip
from videopure.purifier import Framing, Recogniser

__all__ = ["DecodedClips", "Decoders", "decode_videos"]

_HELD_OUT = 10  # one video in this many is for validation
_FRAMES, _DONE, _ASKED = "clips.npy", "videos.jsonl", "question.json"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class DecodedClips:
    """Clips of videos, several of each, at a recogniser's size.

    Args:
        frames: uint8 [N, V, T, 3, H, W]: V clips of each of N videos, which show the same time in
            different frames.
        training: numbers of the videos to train on.
        held_out: numbers of those for validation.
        skipped: what is wrong with each video that was left out.
        labels: int64 [N], the classes of all videos; None where they have none.
    """

    frames: Tensor
    training: Tensor
    held_out: Tensor
    skipped: tuple[str, ...] = ()
    labels: Tensor | None = None

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Clips drawn at random, [B, T, 3, H, W] in 0..1, and their classes [B] if there are any.

        Half of them are mirrored. Without classes, half run backwards (which may change a class).
        """
        drawn = self._draw(size, generator)
        clips = []
        for video, view in drawn:
            clip = self.frames[video, view]
            mirrored, backwards = (torch.rand(2, generator=generator) < 0.5).tolist()
            clip = clip.flip(3) if mirrored else clip
            clips.append(clip.flip(0) if backwards and self.labels is None else clip)
        videos = torch.tensor([video for video, _ in drawn])
        return torch.stack(clips).float() / 255, self._classes(videos)

    def validation(self, count: int) -> tuple[Tensor, Tensor | None]:
        """One clip of each of at most `count` held-out videos, not augmented, and their classes."""
        middle, videos = self.frames.shape[1] // 2, self.held_out[:count]
        return self.frames[videos, middle].float() / 255, self._classes(videos)

    def images(self, count: int, generator: Generator) -> Tensor:
        """Frames drawn at random, half of them mirrored: [count, 3, H, W] in -1..1."""
        frames = torch.randint(self.frames.shape[2], (count,), generator=generator).tolist()
        drawn = zip(self._draw(count, generator), frames, strict=True)
        images = torch.stack([self.frames[video, view, frame] for (video, view), frame in drawn])
        images[: count // 2] = images[: count // 2].flip(3)
        return images.float() / 127.5 - 1

    def _classes(self, videos: Tensor) -> Tensor | None:
        return None if self.labels is None else self.labels[videos]

    def _draw(self, count: int, generator: Generator) -> list[tuple[int, int]]:
        """Training videos and which of their clips."""
        views = self.frames.shape[1]
        picks = torch.randint(len(self.training) * views, (count,), generator=generator).tolist()
        return [(int(self.training[pick // views]), pick % views) for pick in picks]


class Decoders:
    """Reads videos in other processes, one for each thread that asks.

    They are the server's decoding processes: one that crashes on a damaged video or takes too long
    is killed and replaced.

    Args:
        separate: False reads in this process, which a damaged video may crash.
    """

    def __init__(self, separate: bool = True) -> None:
        self._separate = separate and hasattr(os, "fork")  # not on Windows
        self._mine = threading.local()
        self._all: list[Decoder] = []

    def read(self, data: bytes, sampling: Sampling, framing: Framing, limits: Limits) -> Clip:
        """Read a video; arguments, result and errors of `read_clip`."""
        if not self._separate:
            return read_clip(data, sampling, framing, limits)
        if not hasattr(self._mine, "decoder"):
            self._mine.decoder = Decoder()
            self._all.append(self._mine.decoder)
        clip: Clip = self._mine.decoder.read(data, sampling, framing, limits)
        return clip

    def close(self) -> None:
        """End the processes."""
        for decoder in self._all:
            decoder.close()


def decode_videos(
    files: Sequence[Path],
    recogniser: Recogniser,
    folder: Path,
    *,
    limits: Limits,
    views: int = 3,
    workers: int = 1,
    shown: bool = True,
) -> DecodedClips:
    """Decode every video once, in separate processes, or resume where an earlier call stopped.

    Videos that cannot be read are left out, as are those of fewer frames than a clip or of less
    than half its height or width: they would teach what rarely occurs.

    Args:
        files: the videos.
        recogniser: defines the frames that are taken, as in the server.
        folder: where the clips are kept; its disk needs room for all of them.
        limits: limits of the server.
        views: clips per video.
        workers: processes that decode; 0 decodes in this one.
        shown: show a progress bar.

    Raises:
        ClipError: if fewer than two videos are left, or the folder holds clips of other videos.
        EvaluationError: if the disk is full.
    """
    if views < 1:
        raise ClipError(f"views must be at least 1, got {views}")
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(files), views, recogniser.num_frames, 3, *recogniser.frame_size)
    framing = str(recogniser.framing)
    _claim(folder, {"videos": _digest(files), "shape": list(shape), "framing": framing})
    with disk_faults(folder):
        pixels = _open(folder / _FRAMES, shape)
        faults = _read_done(folder / _DONE)
        left = [number for number in range(len(files)) if number not in faults]
        with (
            closing(Decoders(workers > 0)) as decoders,
            (folder / _DONE).open("a", encoding="utf-8") as done,
        ):

            def read(number: int) -> tuple[int, str | None]:
                path = files[number]
                try:
                    clip = read_video(path, recogniser, limits, clips=views, read=decoders.read)
                    pixels[number] = _as_views(clip, path, recogniser, views)
                except ClipError as error:
                    return number, str(error)
                return number, None

            pool = ThreadPoolExecutor(max(1, workers))
            try:
                found = pool.map(read, left)
                console = Console(stderr=True, quiet=not shown or not left)
                for number, fault in track(found, "reading", len(left), console=console):
                    faults[number] = fault
                    done.write(json.dumps([number, fault]) + "\n")
                    done.flush()
            finally:
                pool.shutdown(cancel_futures=True)
    return _divide(folder / _FRAMES, faults)


def _divide(file: Path, faults: dict[int, str | None]) -> DecodedClips:
    """The clips of the usable videos, some of them held out."""
    good = [number for number, fault in sorted(faults.items()) if fault is None]
    skipped = tuple(fault for _, fault in sorted(faults.items()) if fault is not None)
    if len(good) < 2:
        named = "".join(f"\n  {fault}" for fault in skipped[:5])
        raise ClipError(f"{len(good)} of {len(faults)} videos can be trained on, not 2:{named}")
    random.Random(0).shuffle(good)
    held_out = max(1, len(good) // _HELD_OUT)
    # Copy on write: the file is never changed, and torch gets the writable array it asks for.
    frames = torch.from_numpy(np.load(file, mmap_mode="c"))
    return DecodedClips(
        frames, torch.tensor(good[held_out:]), torch.tensor(good[:held_out]), skipped
    )


def _as_views(clip: Clip, path: Path, recogniser: Recogniser, views: int) -> Pixels:
    """uint8 [V, T, 3, H, W] from frames that were sampled V times as densely as a clip's."""
    info, (height, width) = clip.info, recogniser.frame_size
    if info.frames < recogniser.num_frames:
        raise ClipError(
            f"{path}: it has {info.frames} frames, fewer than the {recogniser.num_frames} of a clip"
        )
    if 2 * info.height < height or 2 * info.width < width:
        raise ClipError(
            f"{path}: its frames of {info.width}x{info.height} pixels are less than half of the "
            f"{width}x{height} of a clip"
        )
    frames = (clip.frames * 255).round().byte()
    return torch.stack([frames[view::views] for view in range(views)]).numpy()


def _open(file: Path, shape: tuple[int, ...]) -> Pixels:
    """The array of all clips, whose whole disk space is allocated at once."""
    if not file.exists():
        part = file.with_suffix(".part.npy")
        open_memmap(part, mode="w+", dtype=np.uint8, shape=shape).flush()
        if hasattr(os, "posix_fallocate"):  # a full disk would kill the process while it writes
            with part.open("r+b") as made:
                os.posix_fallocate(made.fileno(), 0, part.stat().st_size)
        part.replace(file)
    pixels: Pixels = open_memmap(file, mode="r+")
    return pixels


def _read_done(file: Path) -> dict[int, str | None]:
    """The result for each video so far: None, or what is wrong with it."""
    if not file.exists():
        return {}
    faults: dict[int, str | None] = {}
    content = file.read_text(encoding="utf-8")
    whole = content[: content.rfind("\n") + 1]  # a kill may have cut the last line
    for line in whole.splitlines():
        number, fault = json.loads(line)
        faults[number] = fault
    file.write_text(whole, encoding="utf-8")
    return faults


def _claim(folder: Path, asked: dict[str, Any]) -> None:
    """Refuse a folder that holds the clips of other videos, or other clips of these."""
    file = folder / _ASKED
    if file.exists():
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored != asked:
            changed = [name for name in asked if stored.get(name) != asked[name]]
            raise ClipError(
                f"{folder} holds the clips of an earlier run with other {', '.join(changed)}: "
                "remove it, or give another --workplace"
            )
        return
    file.write_text(json.dumps(asked), encoding="utf-8")


def _digest(files: Sequence[Path]) -> str:
    """SHA-256 of the names, sizes and times of files: it changes when a folder does."""
    total = hashlib.sha256()
    for line in _lines(files):
        total.update(line.encode())
    return total.hexdigest()


def _lines(files: Sequence[Path]) -> Iterator[str]:
    for file in files:
        try:
            found = file.stat()
            yield f"{file} {found.st_size} {found.st_mtime_ns}\n"
        except OSError:  # reading it will tell
            yield f"{file}\n"
