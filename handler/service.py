"""A whole TorchServe batch through the purifier, with one answer or error per request."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch

from videopure.format.settings import HandlerSettings
from videopure.handler.batching import MicroBatch, Outcome, Pace, answer_clips, stage_times
from videopure.handler.decoder import ReadClip
from videopure.handler.errors import TooLargeError
from videopure.handler.evidence import evidence_video
from videopure.handler.intake import Intake, Job
from videopure.handler.micro_batches import clips_that_fit
from videopure.handler.policy import OperatorKey, told
from videopure.handler.protocols import Envelope
from videopure.handler.requests import Options
from videopure.handler.responses import (
    Judged,
    Reply,
    Thresholds,
    combine,
    error_reply,
    failure_reply,
    verdict_answer,
)
from videopure.handler.similarity import Sighting
from videopure.handler.video import read_clip
from videopure.purifier import DefendedRecogniser, Verdict
from videopure.wire.schemas import Answer, ModelNames, PurificationInfo, SimilarityInfo

__all__ = ["ServedBatch", "VideoPureService"]

# Shares of TorchServe's responseTimeout: no video starts decoding after the first, and no
# micro-batch starts that is not expected to end by the second.
_DECODING = 0.5
_ANSWERING = 0.9


@dataclass(frozen=True)
class ServedBatch:
    """The replies, in the order of the requests, and their cost.

    Args:
        replies: one per request.
        micro_batches: passes through the models.
        memory_splits: micro-batches that had to be halved because memory ran out.
        decode_ms: milliseconds of decoding, over all requests.
        sightings: findings of the similarity memory for each clip, including refused ones.
    """

    replies: list[Reply]
    micro_batches: list[MicroBatch] = field(default_factory=list)
    memory_splits: int = 0
    decode_ms: float = 0.0
    sightings: tuple[Sighting, ...] = ()


class VideoPureService:
    """Answers batches of requests, independent of TorchServe's classes.

    Args:
        defended: the recogniser behind its purifier.
        settings: limits and the size of micro-batches.
        names: names of the models in the answers.
        response_timeout: seconds after which TorchServe kills the worker and answers its whole
            batch with an error; None if there is no such limit.
        read: the function that decodes videos.
        operator_key: tells which requests are the operator's; by default none are.
        calibrated: whether the threshold of suspicion belongs to the archive's own settings.
    """

    def __init__(
        self,
        defended: DefendedRecogniser,
        settings: HandlerSettings,
        names: ModelNames,
        response_timeout: float | None = None,
        *,
        read: ReadClip = read_clip,
        operator_key: OperatorKey | None = None,
        calibrated: bool = True,
    ) -> None:
        self.defended = defended
        self.settings = settings
        self.names = names
        chosen = settings.max_clips_per_forward
        self.max_clips = chosen if isinstance(chosen, int) else 1  # until `warm_up` has measured
        self.response_timeout = response_timeout
        self.intake = Intake(defended.recogniser, settings, operator_key or OperatorKey(), read)
        self.pace = Pace(settings.own_steps)
        self.calibrated = calibrated

    def answer(
        self,
        rows: Sequence[Mapping[str, Any]],
        request_ids: Sequence[str],
        explain: Sequence[bool] | None = None,
        headers: Sequence[Mapping[str, str]] | None = None,
    ) -> ServedBatch:
        """One reply per row, in order; a failed request does not affect the others.

        Args:
            rows: the rows from TorchServe.
            request_ids: one per row.
            explain: for each row, whether it asks for the evidence instead of the answer.
            headers: for each row, those of its request, names in lower case.
        """
        start = time.perf_counter()
        self.intake.sightings = []
        decode_by, answer_by = self._deadlines()
        wanted = explain or [False] * len(rows)
        sent = headers or [{}] * len(rows)
        opened = [
            self._open(row, request_id, evidence, its, decode_by)
            for row, request_id, evidence, its in zip(rows, request_ids, wanted, sent, strict=True)
        ]
        jobs = [job for one in opened if not isinstance(one, Reply) for job in one[1]]
        tasks = [task for job in jobs for task in job.tasks()]
        result = answer_clips(self.defended, tasks, self.max_clips, answer_by, self.pace)
        outcomes = iter(result.outcomes)
        replies = [
            one
            if isinstance(one, Reply)
            else self._bounded(self._seal(*one, outcomes, start), request_id)
            for one, request_id in zip(opened, request_ids, strict=True)
        ]
        decode_ms = sum(job.decode_ms for job in jobs)
        return ServedBatch(
            *(replies, result.micro_batches, result.memory_splits, decode_ms),
            sightings=tuple(self.intake.sightings),
        )

    def warm_up(self) -> None:
        """Purify one grey clip, so that the first request does not pay for first-time work.

        It also measures the worker's pace, so that work that cannot finish in time is not started.
        With `max_clips_per_forward: auto` its memory tells how many clips fit. The first clip is
        measured, because later ones reuse memory that the process has kept.
        """
        recogniser = self.defended.recogniser
        grey = torch.full((1, recogniser.num_frames, 3, *recogniser.frame_size), 0.5)
        purify = partial(self.defended.answer, grey, keep_purified=True)
        if self.settings.max_clips_per_forward == "auto":
            device = next(self.defended.parameters()).device
            self.max_clips = clips_that_fit(purify, device)
        start = time.perf_counter()
        purify()
        self.pace.learn(time.perf_counter() - start, self.settings.own_steps)

    def _deadlines(self) -> tuple[float | None, float | None]:
        """The times by which a batch that starts now may start decoding and must be answered."""
        if self.response_timeout is None:
            return None, None
        now = time.monotonic()
        return now + _DECODING * self.response_timeout, now + _ANSWERING * self.response_timeout

    def _open(
        self,
        row: Mapping[str, Any],
        request_id: str,
        explain: bool,
        headers: Mapping[str, str],
        decode_by: float | None,
    ) -> tuple[Envelope, list[Job]] | Reply:
        """The decoded videos of a request, or the error that answers it."""
        try:
            return self.intake.open(row, request_id, explain, headers, decode_by)
        except Exception as error:  # a bug in one request must not fail the batch
            return failure_reply(error, request_id)

    def _seal(
        self, envelope: Envelope, jobs: Sequence[Job], outcomes: Iterator[Outcome], start: float
    ) -> Reply:
        """The answer to a request, or the error of the first of its clips that failed."""
        mine = [list(islice(outcomes, job.clip.clips)) for job in jobs]
        return envelope.seal(
            [self._reply(job, own, start) for job, own in zip(jobs, mine, strict=True)]
        )

    def _bounded(self, reply: Reply, request_id: str) -> Reply:
        """The reply, or an error if TorchServe would kill the worker for its size."""
        limits = self.settings.limits
        most = limits.max_evidence_bytes if reply.is_video else limits.max_answer_bytes
        size = len(reply.content())  # JSON is ASCII
        if size <= most:
            return reply
        error = TooLargeError(
            f"the answer takes {size} bytes, more than the {most} allowed: ask for fewer videos, "
            "'clips' or a lower 'top_k'"
        )
        return error_reply(error, request_id)

    def _reply(self, job: Job, outcomes: Sequence[Outcome], start: float) -> Reply:
        try:
            verdicts, own = _verdicts(outcomes), self.defended.settings
            answer = verdict_answer(
                job.asked.request_id,
                self.names,
                self.defended.recogniser.labels,
                job.options.top_k,
                verdicts,
                job.clip,
                Thresholds(own.suspicion_threshold, own.change_threshold),
                self._purification(job.options),
                {
                    "decode": job.decode_ms,
                    **stage_times(_micro_batches(outcomes)),
                    "total": 1000 * (time.perf_counter() - start),
                },
            )
            media = _evidence(job, verdicts, answer) if job.asked.explain else None
            alarm = answer.suspicion.adversarial if answer.suspicion else None
            judged = Judged(combine(verdicts), alarm, answer.timing_ms)
            if job.asked.operator:
                answer = answer.model_copy(update={"similarity": _similarity(job.sightings)})
            else:
                answer = told(answer, self.settings.policy)
            return Reply(
                200,
                "OK",
                {} if media else answer.model_dump(),
                media,
                judged=(judged,),
                clips=len(verdicts),
            )
        except Exception as error:  # as above
            return failure_reply(error, job.asked.request_id)

    def _purification(self, options: Options) -> PurificationInfo | None:
        """How a request's clips are purified: `own` if as the threshold was calibrated for."""
        if not options.purify:
            return None
        own = self.defended.settings
        chosen = own.override(
            method=options.method, inversion_steps=options.inversion_steps, votes=options.votes
        )
        return PurificationInfo(
            method=chosen.method,
            inversion_steps=(
                None if chosen.effective_randomisation.step_range else chosen.inversion_steps
            ),
            speed=chosen.speed,
            calibrated=self.calibrated and own.suspicion_threshold is not None and chosen == own,
        )


def _similarity(sightings: Sequence[Sighting]) -> SimilarityInfo | None:
    """The similarity of a video: that of the clip with most near-duplicates."""
    if not sightings:
        return None
    return SimilarityInfo(
        near_duplicates=max(sighting.near for sighting in sightings),
        alarm=any(sighting.alarm for sighting in sightings),
    )


def _evidence(job: Job, verdicts: Sequence[Verdict], answer: Answer) -> bytes:
    purified = torch.cat([v.purified for v in verdicts if v.purified is not None])
    return evidence_video(job.clip.frames, purified, answer)


def _verdicts(outcomes: Sequence[Outcome]) -> list[Verdict]:
    """The verdicts on a video's clips; raises the first error instead."""
    verdicts = []
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        if outcome.verdict is not None:
            verdicts.append(outcome.verdict)
    return verdicts


def _micro_batches(outcomes: Sequence[Outcome]) -> Iterable[MicroBatch]:
    """The micro-batches that a request had clips in, each once."""
    return {id(o.micro_batch): o.micro_batch for o in outcomes if o.micro_batch}.values()
