"""The operator's policy: what a request may ask for, and how much of the answer it gets."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from videopure.format.settings import HandlerSettings, Policy
from videopure.handler.errors import ForbiddenError, InvalidRequestError
from videopure.handler.requests import Options
from videopure.wire.operator import KEY_FILE_VARIABLE, OPERATOR_HEADER, SHORTEST_KEY
from videopure.wire.schemas import Answer, ClipAnswer, Prediction, Suspicion

__all__ = ["OperatorKey", "Share", "check_options", "denoising_steps", "share_of", "told"]

# Cost of one level of the schedule if every train step is visited, in steps of the others.
_STEPWISE = "ddpm"
_TRAIN_STEPS = 1000


class OperatorKey:
    """Distinguishes the operator's requests from those of clients.

    Args:
        key: the key that such requests send in `OPERATOR_HEADER`; None if no request is the
            operator's.
    """

    def __init__(self, key: str | None = None) -> None:
        if key is not None and len(key) < SHORTEST_KEY:
            raise ValueError(f"the operator's key must have {SHORTEST_KEY} characters or more")
        self._key = key

    @classmethod
    def from_environment(cls) -> OperatorKey:
        """The key in the file that `VIDEOPURE_OPERATOR_KEY_FILE` names; none without the variable.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if the key is too short.
        """
        path = os.environ.get(KEY_FILE_VARIABLE)
        if not path:
            return cls()
        try:
            return cls(Path(path).read_text(encoding="utf-8").strip())
        except ValueError as error:
            raise ValueError(f"{KEY_FILE_VARIABLE}={path}: {error}") from None

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request is the operator's.

        Args:
            headers: names in lower case; gRPC has none, so its requests are clients'.

        Raises:
            ForbiddenError: for a key that is not the operator's.
        """
        sent = headers.get(OPERATOR_HEADER.lower())
        if sent is None:
            return False
        if self._key is None:
            raise ForbiddenError(
                f"{OPERATOR_HEADER} was sent, but this server has no operator's key: start "
                f"it with {KEY_FILE_VARIABLE}"
            )
        if not hmac.compare_digest(sent.encode(), self._key.encode()):
            raise ForbiddenError(f"{OPERATOR_HEADER} does not hold the operator's key")
        return True


def check_options(options: Options, settings: HandlerSettings) -> None:
    """Refuse options that the operator does not let clients set.

    Raises:
        InvalidRequestError: naming the option.
    """
    chosen = options.model_fields_set - {*settings.policy.clients_may}
    refused: list[str] = [name for name in Policy.guarded() if name in chosen]
    if settings.default_clips == "auto" and options.clips not in ("auto", None):
        refused.append("clips")  # would leave parts of the video out
    if refused:
        raise InvalidRequestError(
            f"option {refused[0]!r} is the operator's: this server does not let clients set it "
            "(policy.clients_may in model-config.yaml)"
        )


def denoising_steps(options: Options, settings: HandlerSettings) -> int:
    """The most denoising steps of a clip; 0 if it is not purified."""
    if not options.purify:
        return 0
    chosen = options.inversion_steps
    steps = settings.own_steps if chosen is None else chosen + 1
    method = options.method or settings.purification.method
    if method == _STEPWISE:
        return steps * max(1, _TRAIN_STEPS // settings.purification.num_inference_steps)
    return steps


class Share(NamedTuple):
    """The share of its request's limits that a video may use.

    Args:
        clips: clips that are used; with a stride, the most.
        stride: see `Sampling`.
        steps: denoising steps per clip.
    """

    clips: int
    stride: float | None
    steps: int


def share_of(options: Options, settings: HandlerSettings, clips: int, work: int) -> Share:
    """Add the cost of a video to the clips and denoising steps of its request.

    Raises:
        InvalidRequestError: if it asks for more than is left.
    """
    wanted = settings.default_clips if options.clips is None else options.clips
    steps = denoising_steps(options, settings)
    room = settings.max_clips - clips
    least = 1 if wanted == "auto" else wanted
    if least > room:
        raise InvalidRequestError(
            f"option 'clips' of all videos of a request may be {settings.max_clips} together, got "
            f"{wanted} where {room} are left"
        )
    if work + least * steps > settings.max_work:
        raise InvalidRequestError(
            f"the request's clips take {work + least * steps} denoising steps together, more than "
            f"the {settings.max_work} allowed (policy.max_work): ask for fewer 'clips' or "
            "'inversion_steps'"
        )
    if wanted != "auto":
        return Share(wanted, None, steps)
    affordable = (settings.max_work - work) // steps if steps else room
    return Share(min(room, affordable), settings.clip_stride, steps)


def told(answer: Answer, policy: Policy) -> Answer:
    """The part of an answer that clients get: the keys are always the same, the rest is null.

    The omitted parts help attackers who search for an adversarial clip with queries: exact scores,
    the bare recogniser's answer, every vote, the suspicion, and timings that reveal early votes.
    """
    if policy.answer == "full":
        return answer
    scored = policy.answer == "scores"

    def rounded(score: float | None) -> float | None:
        return round(score, policy.decimals) if scored and score is not None else None

    def plain(prediction: Prediction) -> Prediction:
        return prediction.model_copy(update={"score": rounded(prediction.score)})

    def clip(part: ClipAnswer) -> ClipAnswer:
        return part.model_copy(update={"score": rounded(part.score), "suspicion": None})

    alarm = answer.suspicion and Suspicion(score=None, adversarial=answer.suspicion.adversarial)
    return answer.model_copy(
        update={
            "detail": policy.answer,
            "predictions": [plain(p) for p in answer.predictions[: None if scored else 1]],
            "votes": None,
            "undefended": None,
            "suspicion": alarm,
            "clips": [clip(part) for part in answer.clips],
            "timing_ms": {"total": answer.timing_ms["total"]},
        }
    )
