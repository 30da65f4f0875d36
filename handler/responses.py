"""The answers: JSON of a verdict, JSON of an error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from videopure.handler.errors import InternalError, RequestError
from videopure.handler.requests import Options
from videopure.handler.video import Clip
from videopure.purifier import Verdict

__all__ = ["ModelNames", "Reply", "combine", "error_reply", "verdict_reply"]


@dataclass(frozen=True)
class ModelNames:
    """What the answer says of the models."""

    name: str
    version: str
    recogniser: str
    purifier: str


@dataclass(frozen=True)
class Reply:
    """Status, reason phrase and JSON body of one answer."""

    status: int
    phrase: str
    body: dict[str, Any]

    def json(self) -> str:
        """The body; NaN and infinity cannot occur in it."""
        return json.dumps(self.body, allow_nan=False)


def error_reply(error: RequestError, request_id: str) -> Reply:
    """An error in TorchServe's own shape."""
    body = {
        "code": error.status,
        "type": type(error).__name__,
        "message": str(error),
        "request_id": request_id,
    }
    return Reply(error.status, error.phrase, body)


def verdict_reply(
    request_id: str,
    names: ModelNames,
    labels: list[str],
    options: Options,
    verdicts: Sequence[Verdict],
    clip: Clip,
    threshold: float | None,
    timing_ms: Mapping[str, float],
) -> Reply:
    """The answer to a request; the first prediction is its label.

    Args:
        verdicts: one for each clip of the video, in order.
        clip: the frames of all of them, in order.

    Raises:
        InternalError: if the model's probabilities are not finite: JSON has no NaN.
    """
    if not all(
        v.probabilities.isfinite().all() and v.undefended.isfinite().all() for v in verdicts
    ):
        raise InternalError("the model's probabilities for this clip are not finite")
    verdict = combine(verdicts)
    body = {
        "request_id": request_id,
        "model": asdict(names),
        "predictions": _predictions(verdict, labels, options.top_k),
        "votes": _votes(verdict, verdicts, labels),
        "undefended": _prediction(verdict.undefended, int(verdict.undefended.argmax()), labels),
        "suspicion": _suspicion(verdict, threshold),
        "clips": _clips(verdicts, clip.info.frame_indices, labels),
        "video": asdict(clip.info),
        "warnings": clip.warnings,
        "timing_ms": {stage: round(spent, 1) for stage, spent in timing_ms.items()},
    }
    return Reply(200, "OK", body)


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict on a video of the verdicts on its clips.

    A single clip's verdict stands as it is: its label is the vote's. Of several, the label is the
    most probable one by the mean of the clips' probabilities; the suspicion is that of the most
    suspicious clip, so that an attack on a part of the video does not drown in the rest.
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
    )


def _prediction(probabilities: Tensor, label_id: int, labels: list[str]) -> dict[str, Any]:
    return {
        "label": labels[label_id],
        "label_id": label_id,
        "score": float(probabilities[label_id]),
    }


def _predictions(verdict: Verdict, labels: list[str], top_k: int) -> list[dict[str, Any]]:
    """The answered label, then the others by their mean probability."""
    ranked = verdict.probabilities.argsort(descending=True).tolist()
    ranked.remove(verdict.label_id)
    chosen = [verdict.label_id, *ranked][:top_k]
    return [_prediction(verdict.probabilities, label_id, labels) for label_id in chosen]


def _votes(
    verdict: Verdict, verdicts: Sequence[Verdict], labels: list[str]
) -> dict[str, Any] | None:
    if not verdict.votes:
        return None
    by_step = [
        {
            "clip": number,
            "timestep": vote.timestep,
            "label": labels[vote.label_id],
            "score": vote.score,
        }
        for number, clip in enumerate(verdicts)
        for vote in clip.votes
    ]
    return {
        "counted": len(verdict.votes),
        "of": verdict.of,
        "agreement": verdict.agreement,
        "by_step": by_step,
    }


def _clips(
    verdicts: Sequence[Verdict], frame_indices: list[int], labels: list[str]
) -> list[dict[str, Any]]:
    """Each clip's own label and suspicion, and the frames it consists of."""
    frames = len(frame_indices) // len(verdicts)
    return [
        {
            **_prediction(verdict.probabilities, verdict.label_id, labels),
            "suspicion": verdict.suspicion,
            "frame_indices": frame_indices[number * frames : (number + 1) * frames],
        }
        for number, verdict in enumerate(verdicts)
    ]


def _suspicion(verdict: Verdict, threshold: float | None) -> dict[str, Any] | None:
    if verdict.suspicion is None:
        return None
    adversarial = None if threshold is None else verdict.suspicion > threshold
    return {"score": verdict.suspicion, "adversarial": adversarial}
