"""Chooses an archive's settings on validation clips, by accuracy and cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopure.archive.configure import configure_archive
from videopure.evaluation.archives import load_evaluated
from videopure.evaluation.attacks.losses import label_loss
from videopure.evaluation.attacks.pgd import pgd
from videopure.evaluation.data import open_source
from videopure.evaluation.metrics import wilson_interval
from videopure.evaluation.store import disk_faults
from videopure.format.settings import HandlerSettings
from videopure.purifier import DefendedRecogniser, PurifySettings
from videopure.training.calibrate import clean_clips

__all__ = ["STRENGTHS", "Choice", "Found", "Tuned", "tune"]

Report = Callable[[str], object]

STEPS = (0, 1, 2, 3, 5)
# Multiples of the archive's guidance strength.
STRENGTHS = (0.25, 4.0)
SPEEDS = ("exact", "fast")
_TOGETHER = 8  # clips that are purified together


@dataclass(frozen=True)
class Choice:
    """Settings to try: changes to the archive's purification.

    Args:
        name: their name in the table.
        changes: new values, by key of the `purification` section.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """The result of a choice: clips that are answered correctly, out of `clips`.

    Args:
        clean, attacked: without an attack, and under the gray-box attack.
        milliseconds: time per clean clip.
    """

    choice: Choice
    clean: int
    attacked: int
    clips: int
    milliseconds: float

    @property
    def kept(self) -> int:
        """Right answers to clean and attacked clips together."""
        return self.clean + self.attacked

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """95 % intervals of the shares of clean and of attacked clips."""
        return wilson_interval(self.clean, self.clips), wilson_interval(self.attacked, self.clips)


@dataclass(frozen=True)
class Tuned:
    """The settings that were tried.

    Args:
        found: in the order of trying; the first is the unchanged archive.
        best: the recommended settings.
        bare: correct answers of the bare recogniser, clean and attacked.
        labelled: whether correct means the label, or the recogniser's own answer to the clean clip.
        skipped: what is wrong with each video that was left out.
        written: whether the archive has the settings now.
    """

    found: list[Found]
    best: Found
    bare: tuple[int, int]
    labelled: bool
    skipped: tuple[str, ...]
    written: bool


@dataclass(frozen=True, eq=False)
class _Clips:
    """Clips [N, T, 3, H, W] in 0..1 clean and attacked, and the right answers [N]."""

    clean: Tensor
    attacked: Tensor
    labels: Tensor


def tune(
    archive: Path,
    data: str | Path,
    *,
    labelled: bool = True,
    count: int = 40,
    epsilon: float = 8.0,
    steps: Sequence[int] = STEPS,
    strengths: Sequence[float] = STRENGTHS,
    speeds: Sequence[str] = SPEEDS,
    device: torch.device | None = None,
    workers: int = 1,
    write: bool = False,
    report: Report = lambda step: None,
) -> Tuned:
    """Try settings on clips under an attacker who has the recogniser and not the purifier.

    First the paper's t, then the strength of the guidance, then the speed, each with the best of
    the earlier ones. These clips make the choice: evaluate on others afterwards.

    Args:
        archive: made by `videopure build`.
        data: `demo` (its validation clips), a folder of classes or a CSV; without labels, see
            `find_videos`.
        labelled: if False, the recogniser's own answers to the clean clips count as correct.
        count: at most this many clips.
        epsilon: budget of PGD-10, in 1/255.
        steps: values of the paper's t to try.
        strengths: guidance strengths to try, as multiples of the archive's.
        speeds: speeds to try.
        device: device to compute on; by default a GPU where there is one.
        workers: processes that decode; 0 decodes in this process.
        write: write the recommended settings into the archive and remove its thresholds.
        report: called with each result as it is found.

    Raises:
        EvaluationError: if archive or clips cannot be used.
        ValueError: if a setting cannot be used.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_evaluated(archive, device)
    defended, settings = loaded.defended, loaded.settings
    skipped: list[str] = []
    clips, labels = _load(defended, settings, data, labelled, count, workers, skipped)
    report(f"Attacking {len(clips)} clips")
    shown = _attack(defended, clips, labels, epsilon / 255)
    bare = tuple(_hits(defended, part, shown.labels, purify=False)[0] for part in _both(shown))
    found: list[Found] = []

    def measure(choice: Choice) -> Found:
        result = _measure(defended, choice, shown)
        report(describe(result))
        found.append(result)
        return result

    best = measure(Choice("as it is"))
    for round_ in (_of_steps(steps), _of_strengths(strengths), _of_speeds(speeds)):
        for choice in round_(settings.purification, best.choice):
            best = better(best, measure(choice))
    if write and best.choice.changes:
        cleared = {"suspicion_threshold": None, "change_threshold": None}
        changes = {"purification": {**best.choice.changes, **cleared}}
        with disk_faults(archive.parent):
            configure_archive(archive, {"videopure": changes})
    written = write and bool(best.choice.changes)
    return Tuned(found, best, (bare[0], bare[1]), labelled, tuple(skipped), written)


def better(best: Found, other: Found) -> Found:
    """The setting to recommend: it keeps more clips, or as many in less time.

    One clip more or less, clean and attacked together, is chance and not worth a third more time.
    """
    if abs(other.kept - best.kept) <= 1:
        return other if other.milliseconds < best.milliseconds / 1.3 else best
    return other if other.kept > best.kept else best


def describe(found: Found) -> str:
    """A result in a line."""
    return (
        f"{found.choice.name}: {found.clean} of {found.clips} clean, {found.attacked} attacked, "
        f"{found.milliseconds:.0f} ms a clip"
    )


_Round = Callable[[PurifySettings, Choice], Iterator[Choice]]


def _of_steps(steps: Sequence[int]) -> _Round:
    def choices(own: PurifySettings, best: Choice) -> Iterator[Choice]:
        for t in steps:
            if t != own.inversion_steps and own.randomisation.step_range is None:
                yield _with(best, f"t = {t}", inversion_steps=t)

    return choices


def _of_strengths(strengths: Sequence[float]) -> _Round:
    def choices(own: PurifySettings, best: Choice) -> Iterator[Choice]:
        guided = own.method == "videopure" or (own.method == "one_look" and own.one_look.guided)
        if guided and own.guidance_reference is not None:
            frames, channels, height, width = own.guidance_reference
            for strength in strengths:
                # The fewer elements the weights are meant for, the more strongly they act.
                changed = max(1, round(channels / strength))
                if changed != channels:
                    reference = [frames, changed, height, width]
                    name = f"guidance x{channels / changed:g}"
                    yield _with(best, name, guidance_reference=reference)

    return choices


def _of_speeds(speeds: Sequence[str]) -> _Round:
    def choices(own: PurifySettings, best: Choice) -> Iterator[Choice]:
        if own.method == "videopure" and own.speed != "custom":
            for speed in speeds:
                if speed != own.speed:
                    yield _with(best, speed, speed=speed)

    return choices


def _with(best: Choice, name: str, **changes: Any) -> Choice:
    joined = name if not best.changes else f"{best.name}, {name}"
    # This replaces an earlier choice of the same round.
    kept = {key: value for key, value in best.changes.items() if key not in changes}
    if len(kept) < len(best.changes):
        joined = ", ".join([*best.name.split(", ")[:-1], name])
    return Choice(joined, {**kept, **changes})


def _load(
    defended: DefendedRecogniser,
    settings: HandlerSettings,
    data: str | Path,
    labelled: bool,
    count: int,
    workers: int,
    skipped: list[str],
) -> tuple[Tensor, Tensor | None]:
    """Clips [N, T, 3, H, W] in 0..1 and their classes [N], where they have them."""
    recogniser = defended.recogniser
    if labelled:
        split = "validation" if str(data) == "demo" else "test"
        source = open_source(str(data), recogniser, split, settings.limits)
        source.check(count)
        clips, labels, _ = source.load(0, min(count, len(source)))
        return clips, labels
    found = clean_clips(data, recogniser, settings.limits, skipped, count=count, workers=workers)
    return torch.cat([shown for shown, _ in found]), None


def _attack(
    defended: DefendedRecogniser, clips: Tensor, labels: Tensor | None, epsilon: float
) -> _Clips:
    """PGD-10 on the bare recogniser; each choice gets the same attacked clips."""
    recogniser, device = defended.recogniser, next(defended.parameters()).device
    attacked, right = [], []
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(clips), _TOGETHER):
        part = clips[start : start + _TOGETHER].to(device)
        if labels is None:
            with torch.no_grad():
                goal = recogniser.logits(part).argmax(dim=1)
        else:
            goal = labels[start : start + _TOGETHER].to(device)
        loss = label_loss(recogniser.logits, goal)
        attacked.append(pgd(loss, part, epsilon=epsilon, generator=generator).cpu())
        right.append(goal.cpu())
    return _Clips(clips, torch.cat(attacked), torch.cat(right))


def _both(shown: _Clips) -> tuple[Tensor, Tensor]:
    return shown.clean, shown.attacked


def _measure(defended: DefendedRecogniser, choice: Choice, shown: _Clips) -> Found:
    changes = dict(choice.changes)
    if "guidance_reference" in changes:
        changes["guidance_reference"] = tuple(changes["guidance_reference"])
    changed = DefendedRecogniser(
        defended.pipeline, defended.recogniser, defended.settings.override(**changes)
    )
    clean, milliseconds = _hits(changed, shown.clean, shown.labels)
    attacked, _ = _hits(changed, shown.attacked, shown.labels)
    return Found(choice, clean, attacked, len(shown.labels), milliseconds)


def _hits(
    defended: DefendedRecogniser, clips: Tensor, labels: Tensor, *, purify: bool = True
) -> tuple[int, float]:
    """Right answers, and milliseconds for a clip."""
    hits, start = 0, time.perf_counter()
    for first in range(0, len(clips), _TOGETHER):
        part = clips[first : first + _TOGETHER]
        seeds = list(range(first, first + len(part)))
        verdicts = defended.answer(part, purify=purify, seeds=seeds).verdicts
        goals = labels[first : first + _TOGETHER].tolist()
        hits += sum(v.label_id == goal for v, goal in zip(verdicts, goals, strict=True))
    return hits, 1000 * (time.perf_counter() - start) / len(clips)
