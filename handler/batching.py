"""The clips of a whole TorchServe batch through the purifier, in micro-batches that fit."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from videopure.handler.errors import (
    InternalError,
    OutOfMemoryError,
    OutOfTimeError,
    RequestError,
)
from videopure.handler.memory import is_out_of_memory
from videopure.handler.requests import Options
from videopure.purifier import DefendedOutput, DefendedRecogniser, Verdict

__all__ = [
    "BatchResult",
    "ClipTask",
    "MicroBatch",
    "Outcome",
    "Pace",
    "answer_clips",
    "stage_times",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ClipTask:
    """One clip of a request: float32 [T, 3, H, W] in 0..1, of the recogniser's size."""

    request_id: str
    options: Options
    frames: Tensor
    seed: int | None
    keep_purified: bool = False
    steps: int = 0  # denoising steps that it takes


@dataclass(frozen=True)
class MicroBatch:
    """One pass through the models: its clips, and the milliseconds of its stages."""

    size: int
    timing_ms: dict[str, float]


def stage_times(micro_batches: Iterable[MicroBatch]) -> dict[str, float]:
    """Milliseconds by stage, summed over micro-batches."""
    spent: dict[str, float] = {}
    for micro_batch in micro_batches:
        for stage, milliseconds in micro_batch.timing_ms.items():
            spent[stage] = spent.get(stage, 0.0) + milliseconds
    return spent


class Pace:
    """Seconds that a worker takes for a denoising step of a clip, by the latest measurement.

    Args:
        least: work that is always tried first, so that one slow moment does not make a worker
            refuse everything from then on.
    """

    def __init__(self, least: int = 1) -> None:
        self.least = least
        self._seconds: float | None = None

    def learn(self, seconds: float, work: int) -> None:
        """Record the time that a number of denoising steps took."""
        if work:
            self._seconds = seconds / work

    def estimate(self, work: int, *, first: bool) -> float:
        """Estimated seconds for a number of denoising steps; 0 if unknown."""
        if self._seconds is None or (first and work <= self.least):
            return 0.0
        return self._seconds * work


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of a clip: a verdict and the micro-batch that gave it, or an error."""

    verdict: Verdict | None = None
    micro_batch: MicroBatch | None = None
    error: RequestError | None = None


@dataclass(eq=False)
class BatchResult:
    """The outcomes in the order of the tasks, and how they were computed.

    Args:
        outcomes: one per task.
        micro_batches: the completed ones.
        memory_splits: micro-batches that had to be halved because memory ran out.
    """

    outcomes: list[Outcome]
    micro_batches: list[MicroBatch] = field(default_factory=list)
    memory_splits: int = 0


def answer_clips(
    defended: DefendedRecogniser,
    tasks: Sequence[ClipTask],
    max_clips: int,
    deadline: float | None = None,
    pace: Pace | None = None,
) -> BatchResult:
    """Verdicts on clips of many requests; a clip that fails fails alone.

    Clips whose options can be computed together go through in micro-batches of at most `max_clips`,
    whichever requests they belong to. A micro-batch that fails is halved until the culprit is
    alone. None is started that would not finish by the `deadline` of `time.monotonic`, if it takes
    as long as the slowest one so far, or as its work takes at the worker's pace; one that is too
    large for that is also halved.
    """
    pace = pace or Pace()
    result = BatchResult([Outcome() for _ in tasks])
    alike: dict[tuple[object, ...], list[int]] = {}
    for index, task in enumerate(tasks):
        options = task.options
        key = (
            options.inversion_steps,
            options.method,
            options.votes,
            options.purify,
            task.keep_purified,
        )
        alike.setdefault(key, []).append(index)
    for group in alike.values():
        for start in range(0, len(group), max_clips):
            _answer(defended, tasks, group[start : start + max_clips], result, deadline, pace)
    return result


def _answer(
    defended: DefendedRecogniser,
    tasks: Sequence[ClipTask],
    group: list[int],
    result: BatchResult,
    deadline: float | None,
    pace: Pace,
) -> None:
    """Answer the tasks of these indices together, or in halves."""
    work = sum(tasks[index].steps for index in group)
    expected = max(_slowest(result), pace.estimate(work, first=not result.micro_batches))
    if deadline is not None and time.monotonic() + expected > deadline:
        if len(group) > 1 and _slowest(result) < expected:
            _halve(defended, tasks, group, result, deadline, pace)
            return
        late = OutOfTimeError(
            "the request's batch came too close to the worker's responseTimeout: "
            "send it again later, or ask for fewer clips or steps"
        )
        for index in group:
            result.outcomes[index] = Outcome(error=late)
        return
    output: DefendedOutput | None = None
    try:
        output = _forward(defended, [tasks[index] for index in group])
    except Exception as error:  # a model may fail in any way; only its clip may be affected
        if len(group) == 1:
            result.outcomes[group[0]] = Outcome(error=_failure(tasks[group[0]], error))
            return
        result.memory_splits += is_out_of_memory(error)
        logger.warning("A micro-batch of %d failed (%s); halving it", len(group), error)
    if output is None:
        # Only here, after the exception and the tensors that its traceback holds are gone.
        _free_memory()
        _halve(defended, tasks, group, result, deadline, pace)
        return
    micro_batch = MicroBatch(len(group), output.timing_ms)
    pace.learn(sum(output.timing_ms.values()) / 1000, work)
    result.micro_batches.append(micro_batch)
    for index, verdict in zip(group, output.verdicts, strict=True):
        result.outcomes[index] = Outcome(verdict, micro_batch)


def _halve(
    defended: DefendedRecogniser,
    tasks: Sequence[ClipTask],
    group: list[int],
    result: BatchResult,
    deadline: float | None,
    pace: Pace,
) -> None:
    half = len(group) // 2
    _answer(defended, tasks, group[:half], result, deadline, pace)
    _answer(defended, tasks, group[half:], result, deadline, pace)


def _slowest(result: BatchResult) -> float:
    """Seconds of the slowest micro-batch so far."""
    spent = (sum(micro_batch.timing_ms.values()) for micro_batch in result.micro_batches)
    return max(spent, default=0.0) / 1000


def _forward(defended: DefendedRecogniser, tasks: Sequence[ClipTask]) -> DefendedOutput:
    options = tasks[0].options
    clips = torch.stack([task.frames for task in tasks])
    if next(defended.parameters()).is_cuda:
        clips = clips.pin_memory()  # so that the worker does not wait for the copy
    return defended.answer(
        clips,
        inversion_steps=options.inversion_steps,
        method=options.method,
        votes=options.votes,
        purify=options.purify,
        seeds=[task.seed for task in tasks],
        keep_purified=tasks[0].keep_purified,
    )


def _failure(task: ClipTask, error: Exception) -> RequestError:
    """The error for the request of a clip that fails on its own."""
    if is_out_of_memory(error):
        logger.error("Request %s does not fit the memory: %s", task.request_id, error)
        return OutOfMemoryError("the clip does not fit the worker's memory")
    logger.error("Request %s failed", task.request_id, exc_info=error)
    return InternalError("the request failed inside the server; its log has the details")


def _free_memory() -> None:
    """Free the memory of a failed micro-batch before its halves are tried."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
