"""A whole TorchServe batch through the purifier, one answer or error for each request."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from videopure.handler.batching import ClipTask, Outcome, answer_clips
from videopure.handler.errors import InternalError, RequestError
from videopure.handler.requests import Options, parse_row
from videopure.handler.responses import ModelNames, Reply, error_reply, verdict_reply
from videopure.handler.settings import HandlerSettings
from videopure.handler.video import Clip, read_clip
from videopure.purifier import DefendedRecogniser

__all__ = ["VideoPureService"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Job:
    """A good request on its way through the purifier; `clip` holds the frames of all its clips."""

    index: int  # its place in the batch
    request_id: str
    options: Options
    clip: Clip
    decode_ms: float


class VideoPureService:
    """Answers batches of requests; knows nothing of TorchServe's classes.

    Args:
        defended: the recogniser behind its purifier.
        settings: limits and the size of micro-batches.
        names: what the answers call the models.
    """

    def __init__(
        self, defended: DefendedRecogniser, settings: HandlerSettings, names: ModelNames
    ) -> None:
        self.defended = defended
        self.settings = settings
        self.names = names

    def answer(self, rows: Sequence[Mapping[str, Any]], request_ids: Sequence[str]) -> list[Reply]:
        """One reply for each row, in order; a request that fails spoils no other."""
        start = time.perf_counter()
        replies: dict[int, Reply] = {}
        jobs: list[_Job] = []
        for index, (row, request_id) in enumerate(zip(rows, request_ids, strict=True)):
            try:
                jobs.append(self._read(index, row, request_id))
            except RequestError as error:
                replies[index] = error_reply(error, request_id)
            except Exception:  # a fault of ours in one request must not spoil the batch
                replies[index] = _unexpected(request_id)
        tasks = [task for job in jobs for task in self._tasks(job)]
        result = answer_clips(self.defended, tasks, self.settings.max_clips_per_forward)
        done = 0
        for job in jobs:
            outcomes = result.outcomes[done : done + job.options.clips]
            done += job.options.clips
            replies[job.index] = self._reply(job, outcomes, start)
        return [replies[index] for index in range(len(rows))]

    def warm_up(self) -> None:
        """Purify one grey clip, so that the first request does not pay for first-time work."""
        recogniser = self.defended.recogniser
        self.defended.answer(torch.full((1, recogniser.num_frames, 3, *recogniser.frame_size), 0.5))

    def _read(self, index: int, row: Mapping[str, Any], request_id: str) -> _Job:
        start = time.perf_counter()
        request = parse_row(row, self.settings)
        recogniser = self.defended.recogniser
        # Frames spread evenly over the whole video, cut into runs of equal length, are what each
        # of as many equal parts of it would give.
        num_frames = request.options.clips * recogniser.num_frames
        clip = read_clip(request.video, num_frames, recogniser.frame_size, self.settings.limits)
        spent = 1000 * (time.perf_counter() - start)
        return _Job(index, request_id, request.options, clip, spent)

    def _tasks(self, job: _Job) -> list[ClipTask]:
        """The clips of a request; each draws noise of its own."""
        seed = job.options.seed
        return [
            ClipTask(job.request_id, job.options, frames, None if seed is None else seed + number)
            for number, frames in enumerate(job.clip.frames.chunk(job.options.clips))
        ]

    def _reply(self, job: _Job, outcomes: Sequence[Outcome], start: float) -> Reply:
        """The answer to a request, or the error of the first of its clips that failed."""
        try:
            verdicts = []
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                if outcome.verdict is not None:
                    verdicts.append(outcome.verdict)
            total = 1000 * (time.perf_counter() - start)
            return verdict_reply(
                job.request_id,
                self.names,
                self.defended.recogniser.labels,
                job.options,
                verdicts,
                job.clip,
                self.defended.settings.suspicion_threshold,
                {"decode": job.decode_ms, **_stages(outcomes), "total": total},
            )
        except RequestError as error:
            logger.error("Request %s failed: %s", job.request_id, error)
            return error_reply(error, job.request_id)


def _stages(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Milliseconds by stage of the micro-batches that a request had clips in."""
    shared = {id(o.micro_batch): o.micro_batch for o in outcomes if o.micro_batch is not None}
    spent: dict[str, float] = {}
    for micro_batch in shared.values():
        for stage, milliseconds in micro_batch.timing_ms.items():
            spent[stage] = spent.get(stage, 0.0) + milliseconds
    return spent


def _unexpected(request_id: str) -> Reply:
    """Log the exception being handled and answer without its details."""
    logger.exception("Request %s failed", request_id)
    message = "the request failed inside the server; its log has the details"
    return error_reply(InternalError(message), request_id)
