"""The answers: JSON of a verdict, JSON of an error, the evidence as a video."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from videopure.handler.errors import InternalError, OutOfMemoryError, RequestError
from videopure.handler.memory import is_out_of_memory
from videopure.handler.video import Clip
from videopure.purifier import Verdict
from videopure.wire.schemas import (
    Answer,
    ClipAnswer,
    ErrorAnswer,
    ModelNames,
    Prediction,
    PurificationInfo,
    Suspicion,
    Votes,
    VoteStep,
)

__all__ = [
    "Judged",
    "Reply",
    "Thresholds",
    "combine",
    "error_reply",
    "failure_reply",
    "verdict_answer",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """The findings about a video, for log and metrics, whatever the client is told.

    Args:
        adversarial: whether the alarm was raised; None if there is no threshold for it.
        timing_ms: milliseconds by stage, and in total.
    """

    verdict: Verdict
    adversarial: bool | None = None
    timing_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """Status, reason phrase and content of one answer.

    Args:
        body: body of JSON answers.
        media: bytes that are the answer instead, and their type; an mp4 by default.
        headers: headers of the answer, besides its type.
        judged: the videos of the request; none for errors.
        clips: number of clips used.
    """

    status: int
    phrase: str
    body: dict[str, Any] = field(default_factory=dict)
    media: bytes | None = None
    media_type: str = "video/mp4"
    headers: Mapping[str, str] = field(default_factory=dict)
    judged: tuple[Judged, ...] = ()
    clips: int = 0

    @property
    def content_type(self) -> str:
        """The type of `content`."""
        return "application/json" if self.media is None else self.media_type

    @property
    def is_video(self) -> bool:
        """Whether it is the evidence."""
        return self.media is not None and self.media_type.startswith("video/")

    def content(self) -> str | bytes:
        """The bytes sent over the wire; NaN and infinity cannot occur in it."""
        return json.dumps(self.body, allow_nan=False) if self.media is None else self.media


_LONGEST_MESSAGE = 4_000  # characters


def error_reply(error: RequestError, request_id: str) -> Reply:
    """An error in TorchServe's own shape."""
    body = ErrorAnswer(
        code=error.status,
        type=type(error).__name__,
        message=str(error)[:_LONGEST_MESSAGE],
        request_id=request_id,
    )
    return Reply(error.status, error.phrase, body.model_dump())


def failure_reply(error: Exception, request_id: str) -> Reply:
    """The answer to a failed request; for faults that are not its own, the log has more."""
    if isinstance(error, RequestError):
        return error_reply(error, request_id)
    logger.error("Request %s failed", request_id, exc_info=error)
    if is_out_of_memory(error):
        return error_reply(
            OutOfMemoryError("the request does not fit the worker's memory"), request_id
        )
    message = "the request failed inside the server; its log has the details"
    return error_reply(InternalError(message), request_id)


class Thresholds(NamedTuple):
    """The threshold above which a score raises the alarm; None if it never does."""

    suspicion: float | None = None
    change: float | None = None


def verdict_answer(
    request_id: str,
    names: ModelNames,
    labels: list[str],
    top_k: int,
    verdicts: Sequence[Verdict],
    clip: Clip,
    thresholds: Thresholds,
    purification: PurificationInfo | None,
    timing_ms: Mapping[str, float],
) -> Answer:
    """The answer to a request; the first prediction is its label.

    Args:
        verdicts: one per clip of the video, in order.
        clip: the frames of all of them, in order.
        thresholds: thresholds of the alarm.
        purification: how the clips were purified; None if they were not.

    Raises:
        InternalError: if the model's probabilities are not finite: JSON has no NaN.
    """
    if not all(
        v.probabilities.isfinite().all() and v.undefended.isfinite().all() for v in verdicts
    ):
        raise InternalError("the model's probabilities for this clip are not finite")
    verdict = combine(verdicts)
    calibrated = purification is not None and purification.calibrated
    return Answer(
        request_id=request_id,
        model=names,
        detail="full",
        purification=purification,
        predictions=_predictions(verdict, labels, top_k),
        votes=_votes(verdict, verdicts, labels),
        undefended=_prediction(verdict.undefended, int(verdict.undefended.argmax()), labels),
        suspicion=_suspicion(verdict, thresholds.suspicion if calibrated else None),
        clips=_clips(verdicts, clip.info.frame_indices, labels),
        video=clip.info,
        warnings=[*clip.warnings, *_unlike(verdict, thresholds.change if calibrated else None)],
        timing_ms={stage: round(spent, 1) for stage, spent in timing_ms.items()},
    )


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Combine the verdicts on a video's clips into one.

    A single clip's verdict is unchanged: its label is the vote's. For several, the label is the
    most probable one by the mean of the clips' probabilities; the suspicion is that of the most
    suspicious clip, so that an attack on part of the video does not drown in the rest.
    """
    if len(verdicts) == 1:
        return verdicts[0]
    probabilities = torch.stack([v.probabilities for v in verdicts]).mean(dim=0)
    label_id = int(probabilities.argmax())
    votes = tuple(vote for v in verdicts for vote in v.votes)
    agreeing = sum(vote.label_id == label_id for vote in votes)
    return Verdict(
        label_id=label_id,
        probabilities=probabilities,
        votes=votes,
        of=sum(v.of for v in verdicts),
        agreement=agreeing / len(votes) if votes else 1.0,
        undefended=torch.stack([v.undefended for v in verdicts]).mean(dim=0),
        suspicion=max((v.suspicion for v in verdicts if v.suspicion is not None), default=None),
        change=max((v.change for v in verdicts if v.change is not None), default=None),
    )


def _unit(value: float) -> float:
    """Clip to 1: sums of float32 probabilities may exceed it by rounding."""
    return min(1.0, max(0.0, value))


def _prediction(probabilities: Tensor, label_id: int, labels: list[str]) -> Prediction:
    score = _unit(float(probabilities[label_id]))
    return Prediction(label=labels[label_id], label_id=label_id, score=score)


def _predictions(verdict: Verdict, labels: list[str], top_k: int) -> list[Prediction]:
    """The answered label, then the others by their mean probability."""
    ranked = verdict.probabilities.argsort(descending=True).tolist()
    ranked.remove(verdict.label_id)
    chosen = [verdict.label_id, *ranked][:top_k]
    return [_prediction(verdict.probabilities, label_id, labels) for label_id in chosen]


def _votes(verdict: Verdict, verdicts: Sequence[Verdict], labels: list[str]) -> Votes | None:
    if not verdict.votes:
        return None
    steps = [
        VoteStep(
            clip=number,
            timestep=vote.timestep,
            label=labels[vote.label_id],
            score=_unit(vote.score),
        )
        for number, clip in enumerate(verdicts)
        for vote in clip.votes
    ]
    return Votes(
        counted=len(verdict.votes), of=verdict.of, agreement=verdict.agreement, by_step=steps
    )


def _clips(
    verdicts: Sequence[Verdict], frame_indices: list[int], labels: list[str]
) -> list[ClipAnswer]:
    """Each clip's own label and suspicion, and its frames."""
    frames = len(frame_indices) // len(verdicts)
    return [
        ClipAnswer(
            label=labels[verdict.label_id],
            label_id=verdict.label_id,
            score=_unit(float(verdict.probabilities[verdict.label_id])),
            suspicion=None if verdict.suspicion is None else _unit(verdict.suspicion),
            frame_indices=frame_indices[number * frames : (number + 1) * frames],
        )
        for number, verdict in enumerate(verdicts)
    ]


def _unlike(verdict: Verdict, threshold: float | None) -> Iterator[str]:
    """A warning if purification changes the clip more than clips that the purifier knows."""
    if threshold is not None and verdict.change is not None and verdict.change > threshold:
        yield (
            "the clip is unlike those the purifier was trained on, and purification may have "
            "removed what matters in it: trust the answer less"
        )


def _suspicion(verdict: Verdict, threshold: float | None) -> Suspicion | None:
    if verdict.suspicion is None:
        return None
    adversarial = None if threshold is None else verdict.suspicion > threshold
    return Suspicion(score=_unit(verdict.suspicion), adversarial=adversarial)
