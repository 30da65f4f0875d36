"""Thresholds of an archive's alarm, found on clean clips for a chosen false-alarm rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from videopure.archive.configure import configure_archive
from videopure.evaluation.archives import load_evaluated
from videopure.evaluation.store import disk_faults
from videopure.evaluation.videos import ClipError, find_videos, read_video
from videopure.format.settings import Calibration, HandlerSettings, Limits
from videopure.motions.clips import CLASSES, Split, Stream
from videopure.motions.dataset import load_split
from videopure.purifier import DefendedRecogniser, Recogniser
from videopure.purifier.suspicion import calibrate_threshold
from videopure.training.decoded import Decoders
from videopure.training.intervals import false_alarm_interval

__all__ = [
    "Calibrated",
    "CleanScores",
    "Threshold",
    "calibrate",
    "clean_clips",
    "score_clips",
]

Report = Callable[[str], object]

DEMO_CLIPS = 400
RATES = (0.01, 0.02, 0.05, 0.1)
_TOGETHER = 8  # clips that are purified together


@dataclass(frozen=True)
class Threshold:
    """A threshold, and what its calibration clips say about its false alarms.

    Args:
        aim: the requested share of false alarms.
        value: the score beyond which there is an alarm.
        expected: the share of false alarms among other clips of the same kind, on average over
            possible draws of calibration clips.
        low, high: where that share lies, with 95 % confidence.
        clips: number of clips it was found on.
    """

    aim: float
    value: float
    expected: float
    low: float
    high: float
    clips: int

    @classmethod
    def of(cls, scores: Tensor, aim: float) -> Threshold:
        """The threshold that a share `aim` of clean scores [N] exceeds."""
        # Rounded up, so that the value written and read back is not below any of the scores.
        value = math.ceil(calibrate_threshold(scores, aim) * 1e6) / 1e6
        above, clips = int((scores > value).sum()), len(scores)
        low, high = false_alarm_interval(above, clips)
        return cls(aim, value, (above + 1) / (clips + 1), low, high, clips)

    @property
    def reachable(self) -> bool:
        """Whether there are enough clips for so few false alarms."""
        return self.expected <= self.aim + 1e-9

    @property
    def clips_needed(self) -> int:
        """The number of clips that is enough."""
        return math.ceil(1 / self.aim - 1e-9) - 1


@dataclass(frozen=True, eq=False)
class CleanScores:
    """Suspicion [N], change [N] (see `Verdict`) and names of clean clips; what was skipped."""

    suspicion: Tensor
    change: Tensor
    skipped: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The thresholds that were found.

    Args:
        suspicion: the alarm's thresholds, the requested one first, then those of `RATES`.
        change: threshold of the warning that the purifier does not know a clip.
        scores: the scores that they were found on.
        written: whether the archive has them now.
    """

    suspicion: list[Threshold]
    change: Threshold
    scores: CleanScores
    written: bool


def calibrate(
    archive: Path,
    clips: str | Path,
    *,
    false_alarms: float = 0.01,
    count: int | None = None,
    device: torch.device | None = None,
    workers: int = 1,
    write: bool = True,
    report: Report = lambda step: None,
) -> Calibrated:
    """Find the thresholds of an archive at its settings, and write them into it.

    They hold for its models and settings, and for clips of the kind that they were found on.

    Args:
        archive: made by `videopure build`; a signature of it is no longer valid afterwards.
        clips: clean videos, see `find_videos`; labels are ignored. Or `demo`.
        false_alarms: share of clean clips that may be called adversarial.
        count: at most this many clips.
        device: device to compute on; by default a GPU where there is one.
        workers: processes that decode; 0 decodes in this process.
        write: False leaves the archive as it is.
        report: called with the name of each step as it starts.

    Raises:
        EvaluationError: if archive or clips cannot be used.
        ValueError: if the share is not between 0 and 1.
    """
    if not 0 < false_alarms < 1:
        raise ValueError(f"false_alarms must lie between 0 and 1, got {false_alarms}")
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report("Loading the archive")
    loaded = load_evaluated(archive, device)
    defended, settings = loaded.defended, loaded.settings
    report("Purifying clean clips")
    skipped: list[str] = []
    shown = clean_clips(
        clips, defended.recogniser, settings.limits, skipped, count=count, workers=workers
    )
    scores = score_clips(defended, shown, skipped)
    aims = (false_alarms, *(rate for rate in RATES if rate != false_alarms))
    thresholds = [Threshold.of(scores.suspicion, aim) for aim in aims]
    change = Threshold.of(scores.change, false_alarms)
    if write:
        report("Writing the thresholds")
        with disk_faults(archive.parent):
            configure_archive(archive, _settings(settings, thresholds[0], change))
    return Calibrated(thresholds, change, scores, write)


def _settings(
    settings: HandlerSettings, suspicion: Threshold, change: Threshold
) -> dict[str, object]:
    """The changes to model-config.yaml."""
    record = Calibration(
        clips=suspicion.clips,
        false_alarms=suspicion.aim,
        settings=settings.purification_in_words,
    )
    return {
        "videopure": {
            "purification": {
                "suspicion_threshold": min(1.0, suspicion.value),
                "change_threshold": min(1.0, change.value),
            },
            "calibration": record.model_dump(mode="json"),
        }
    }


def clean_clips(
    clips: str | Path,
    recogniser: Recogniser,
    limits: Limits,
    skipped: list[str],
    *,
    count: int | None = None,
    workers: int = 1,
    split: Split = "calibration",
) -> Iterator[tuple[Tensor, list[str]]]:
    """Batches of clips [B, T, 3, H, W] in 0..1 with their names, which are the files' paths.

    Clips that cannot be read are added to `skipped`. `split` applies to the demo's clips.

    Raises:
        ClipError: if there are none.
    """
    if str(clips) == "demo":
        if tuple(recogniser.labels) != CLASSES:
            raise ClipError(
                f"recogniser {recogniser.name!r} does not know the demo's classes: name clips of "
                "your own"
            )
        wanted = count or DEMO_CLIPS
        for start in range(0, wanted, _TOGETHER):
            numbers = range(start, min(start + _TOGETHER, wanted))
            shown, _ = load_split(Stream(split), start, len(numbers))
            yield shown, [f"{split} {number}" for number in numbers]
        return
    files = [file.path for file in find_videos(clips, labelled=False)][:count]
    with closing(Decoders(workers > 0)) as decoders, ThreadPoolExecutor(max(1, workers)) as pool:

        def read(path: Path) -> Tensor | None:
            try:
                return read_video(path, recogniser, limits, read=decoders.read).frames
            except ClipError as error:
                skipped.append(str(error))
                return None

        for start in range(0, len(files), _TOGETHER):
            paths = files[start : start + _TOGETHER]
            read_paths = zip(pool.map(read, paths), paths, strict=True)
            good = [(frames, str(path)) for frames, path in read_paths if frames is not None]
            if good:
                frames, names = zip(*good, strict=True)
                yield torch.stack(frames), list(names)


def score_clips(
    defended: DefendedRecogniser,
    batches: Iterator[tuple[Tensor, list[str]]],
    skipped: Sequence[str] = (),
) -> CleanScores:
    """Purify clips as the server does, and collect their verdicts' scores.

    Raises:
        ClipError: if there were none.
    """
    suspicion: list[float] = []
    change: list[float] = []
    names: list[str] = []
    for shown, called in track(batches, "clean clips", console=Console(stderr=True)):
        for verdict, name in zip(defended.answer(shown).verdicts, called, strict=True):
            if verdict.suspicion is not None and verdict.change is not None:
                suspicion.append(verdict.suspicion)
                change.append(verdict.change)
                names.append(name)
    if not suspicion:
        named = "".join(f"\n  {fault}" for fault in skipped[:5])
        raise ClipError(f"there are no clean clips to calibrate on{named}")
    scores = torch.tensor(suspicion), torch.tensor(change)
    return CleanScores(*scores, tuple(skipped), tuple(names))
