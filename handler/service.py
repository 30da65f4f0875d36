"""A whole TorchServe batch through the purifier, one answer or error for each request."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from videopure.handler.errors import InternalError, OutOfMemoryError, RequestError
from videopure.handler.requests import Options, Request, parse_row
from videopure.handler.responses import ModelNames, Reply, error_reply, verdict_reply
from videopure.handler.settings import HandlerSettings
from videopure.handler.video import Clip, read_clip
from videopure.purifier import DefendedOutput, DefendedRecogniser, Verdict

__all__ = ["VideoPureService"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Job:
    """A good request on its way through the purifier."""

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
                replies[index] = self._unexpected(request_id)
        for group in self._groups(jobs):
            replies.update(self._purify(group, start))
        return [replies[index] for index in range(len(rows))]

    def warm_up(self) -> None:
        """Purify one grey clip, so that the first request does not pay for first-time work."""
        recogniser = self.defended.recogniser
        self.defended.answer(torch.full((1, recogniser.num_frames, 3, *recogniser.frame_size), 0.5))

    def _read(self, index: int, row: Mapping[str, Any], request_id: str) -> _Job:
        start = time.perf_counter()
        request: Request = parse_row(row, self.settings.max_inversion_steps)
        recogniser = self.defended.recogniser
        clip = read_clip(
            request.video, recogniser.num_frames, recogniser.frame_size, self.settings.limits
        )
        spent = 1000 * (time.perf_counter() - start)
        return _Job(index, request_id, request.options, clip, spent)

    def _groups(self, jobs: list[_Job]) -> list[list[_Job]]:
        """Jobs that can be purified together, at most `max_clips_per_forward` at a time."""
        alike: dict[tuple[object, ...], list[_Job]] = {}
        for job in jobs:
            options = job.options
            key = (options.inversion_steps, options.method, options.votes, options.purify)
            alike.setdefault(key, []).append(job)
        size = self.settings.max_clips_per_forward
        return [group[i : i + size] for group in alike.values() for i in range(0, len(group), size)]

    def _purify(self, group: list[_Job], start: float) -> dict[int, Reply]:
        """Replies of one micro-batch; one that fails is halved until the culprit is alone."""
        output: DefendedOutput | None = None
        try:
            output = self._forward(group)
        except Exception as error:  # anything may go wrong in a model; only its clip may suffer
            if len(group) == 1:
                return {group[0].index: self._failed(group[0], error)}
            logger.warning("A micro-batch of %d failed (%s); halving it", len(group), error)
        if output is None:
            # Only here, after the exception and the tensors that its traceback holds are gone.
            _free_memory()
            half = len(group) // 2
            return self._purify(group[:half], start) | self._purify(group[half:], start)
        return {
            job.index: self._reply(job, verdict, output.timing_ms, start)
            for job, verdict in zip(group, output.verdicts, strict=True)
        }

    def _reply(
        self, job: _Job, verdict: Verdict, timing_ms: Mapping[str, float], start: float
    ) -> Reply:
        total = 1000 * (time.perf_counter() - start)
        try:
            return verdict_reply(
                job.request_id,
                self.names,
                self.defended.recogniser.labels,
                job.options,
                verdict,
                job.clip,
                self.defended.settings.suspicion_threshold,
                {"decode": job.decode_ms, **timing_ms, "total": total},
            )
        except RequestError as error:
            logger.error("Request %s failed: %s", job.request_id, error)
            return error_reply(error, job.request_id)

    def _forward(self, group: list[_Job]) -> DefendedOutput:
        options = group[0].options
        return self.defended.answer(
            torch.stack([job.clip.frames for job in group]),
            inversion_steps=options.inversion_steps,
            method=options.method,
            votes=options.votes,
            purify=options.purify,
            seeds=[job.options.seed for job in group],
        )

    def _failed(self, job: _Job, error: Exception) -> Reply:
        """The answer to a request that fails even alone."""
        if _is_out_of_memory(error):
            logger.error("Request %s does not fit the memory: %s", job.request_id, error)
            message = "the clip does not fit the worker's memory"
            return error_reply(OutOfMemoryError(message), job.request_id)
        return self._unexpected(job.request_id)

    @staticmethod
    def _unexpected(request_id: str) -> Reply:
        """Log the exception being handled and answer without its details."""
        logger.exception("Request %s failed", request_id)
        message = "the request failed inside the server; its log has the details"
        return error_reply(InternalError(message), request_id)


def _is_out_of_memory(error: Exception) -> bool:
    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _free_memory() -> None:
    """Give back what a failed micro-batch held, before its halves are tried."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
