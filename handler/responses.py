"""The answers: JSON of a verdict, JSON of an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from videopure.handler.errors import InternalError, RequestError
from videopure.handler.requests import Options
from videopure.handler.video import Clip
from videopure.purifier import Verdict

__all__ = ["ModelNames", "Reply", "error_reply", "verdict_reply"]


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
    verdict: Verdict,
    clip: Clip,
    threshold: float | None,
    timing_ms: Mapping[str, float],
) -> Reply:
    """The answer to a request; the first prediction is the voted label.

    Raises:
        InternalError: if the model's probabilities are not finite: JSON has no NaN.
    """
    if not (verdict.probabilities.isfinite().all() and verdict.undefended.isfinite().all()):
        raise InternalError("the model's probabilities for this clip are not finite")
    body = {
        "request_id": request_id,
        "model": asdict(names),
        "predictions": _predictions(verdict, labels, options.top_k),
        "votes": _votes(verdict, labels),
        "undefended": _prediction(verdict.undefended, int(verdict.undefended.argmax()), labels),
        "suspicion": _suspicion(verdict, threshold),
        "video": asdict(clip.info),
        "warnings": clip.warnings,
        "timing_ms": {stage: round(spent, 1) for stage, spent in timing_ms.items()},
    }
    return Reply(200, "OK", body)


def _prediction(probabilities: Tensor, label_id: int, labels: list[str]) -> dict[str, Any]:
    return {
        "label": labels[label_id],
        "label_id": label_id,
        "score": float(probabilities[label_id]),
    }


def _predictions(verdict: Verdict, labels: list[str], top_k: int) -> list[dict[str, Any]]:
    """The voted label, then the others by their mean probability."""
    ranked = verdict.probabilities.argsort(descending=True).tolist()
    ranked.remove(verdict.label_id)
    chosen = [verdict.label_id, *ranked][:top_k]
    return [_prediction(verdict.probabilities, label_id, labels) for label_id in chosen]


def _votes(verdict: Verdict, labels: list[str]) -> dict[str, Any] | None:
    if not verdict.votes:
        return None
    by_step = [
        {"timestep": vote.timestep, "label": labels[vote.label_id], "score": vote.score}
        for vote in verdict.votes
    ]
    return {
        "counted": len(verdict.votes),
        "of": verdict.of,
        "agreement": verdict.agreement,
        "by_step": by_step,
    }


def _suspicion(verdict: Verdict, threshold: float | None) -> dict[str, Any] | None:
    if verdict.suspicion is None:
        return None
    adversarial = None if threshold is None else verdict.suspicion > threshold
    return {"score": verdict.suspicion, "adversarial": adversarial}
