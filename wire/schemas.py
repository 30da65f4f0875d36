"""The answers' shape on the wire, and their published JSON schema.

`python -m videopure.wire.schemas` prints the schema; docs/answer.schema.json holds it.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Answer",
    "ClipAnswer",
    "ErrorAnswer",
    "ModelNames",
    "Prediction",
    "PurificationInfo",
    "SimilarityInfo",
    "Suspicion",
    "VideoInfo",
    "VoteStep",
    "Votes",
    "answer_schema",
]

Probability = Field(ge=0, le=1)


class _Part(BaseModel):
    """Newer servers may send more; readers keep unknown keys."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


class ModelNames(_Part):
    """The model that answered."""

    name: str = Field(description="the model's name in TorchServe")
    version: str
    recogniser: str
    purifier: str


class Prediction(_Part):
    """A class and its probability."""

    label: str
    label_id: int = Field(ge=0, description="its place among the recogniser's labels")
    score: float | None = Field(ge=0, le=1, description="null if only labels are told")


class VoteStep(_Part):
    """The vote of one purified candidate."""

    clip: int = Field(ge=0, description="which clip of the video")
    timestep: int = Field(ge=0, description="step of the diffusion schedule; 0: the final latents")
    label: str
    score: float = Probability


class Votes(_Part):
    """The result of the vote."""

    counted: int = Field(ge=1, description="counting stops once the label is settled")
    of: int = Field(ge=1, description="votes in a full count")
    agreement: float = Field(ge=0, le=1, description="share of the counted votes for the answer")
    by_step: list[VoteStep]


class Suspicion(_Part):
    """How likely the clip is adversarial."""

    score: float | None = Field(
        ge=0,
        le=1,
        description="mean total variation distance between the bare answer and the votes; null "
        "if it is not told",
    )
    adversarial: bool | None = Field(
        description="whether the score exceeds the threshold; null if the settings are not "
        "those that it was calibrated for"
    )


class PurificationInfo(_Part):
    """How the video was purified."""

    method: str
    inversion_steps: int | None = Field(
        ge=0, description="the paper's t; null if it was drawn for each clip"
    )
    speed: str
    calibrated: bool = Field(
        description="whether the archive has a suspicion threshold for these settings"
    )


class SimilarityInfo(_Part):
    """What the server remembers of the client's recent clips."""

    near_duplicates: int = Field(
        ge=0, description="near-duplicates of the clip that has most, among the remembered ones"
    )
    alarm: bool = Field(description="whether these are as many as similarity.alarm_at")


class ClipAnswer(Prediction):
    """One clip of a video that was cut into several."""

    suspicion: float | None = Field(ge=0, le=1, description="null if not purified or not told")
    frame_indices: list[int]


class VideoInfo(_Part):
    """The video as it was decoded."""

    frames: int = Field(ge=1)
    fps: float | None
    duration_s: float | None
    width: int = Field(ge=1, description="pixels, upright")
    height: int = Field(ge=1, description="pixels, upright")
    frame_indices: list[int] = Field(description="the frames that were used")
    sampling_phase: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="position of each frame in its share of the video, if that was drawn",
    )


class Answer(_Part):
    """The answer to a video."""

    request_id: str
    model: ModelNames
    detail: Literal["label", "scores", "full"] = Field(
        "full", description="how much the server's policy tells this client; the rest is null"
    )
    purification: PurificationInfo | None = Field(
        None, description="null if the video was not purified"
    )
    predictions: list[Prediction] = Field(
        min_length=1, description="the answered label, then the others by their mean probability"
    )
    votes: Votes | None = Field(description="null if the video was not purified, or not told")
    undefended: Prediction | None = Field(
        description="the bare recogniser's answer; null if it is not told"
    )
    suspicion: Suspicion | None = Field(description="null if the video was not purified")
    similarity: SimilarityInfo | None = Field(
        None, description="null if it is not told, or if nothing is remembered"
    )
    clips: list[ClipAnswer] = Field(min_length=1)
    video: VideoInfo
    warnings: list[str]
    timing_ms: dict[str, float] = Field(description="milliseconds by stage")


class ErrorAnswer(_Part):
    """The answer to a request that failed, in TorchServe's own shape."""

    code: int = Field(ge=400, le=599, description="the HTTP status; gRPC has it only here")
    type: str
    message: str
    request_id: str


def answer_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of every JSON answer of the model."""
    answer = Answer.model_json_schema(mode="serialization")
    error = ErrorAnswer.model_json_schema(mode="serialization")
    definitions = {**answer.pop("$defs"), "Answer": answer, "ErrorAnswer": error}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "VideoPure's answer, or its error",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in ("Answer", "ErrorAnswer")],
        "$defs": definitions,
    }


if __name__ == "__main__":
    print(json.dumps(answer_schema(), indent=2))
