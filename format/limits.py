"""The limits on a video; separate from the other settings, which load the models' code."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Limits"]


class Limits(BaseModel):
    """The limits on a video; beyond them it is refused with 413."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bytes: int = Field(64 * 1024 * 1024, gt=0)
    max_seconds: float = Field(600, gt=0)
    max_frames: int = Field(20_000, gt=0)
    max_pixels: int = Field(4096 * 2304, gt=0, description="width times height of a frame")
    max_decode_seconds: float = Field(30, gt=0)
    max_decode_memory: int = Field(2 * 1024**3, gt=0, description="bytes, on Linux")
    # Both below `max_response_size` of config.properties: a larger answer kills the worker.
    max_answer_bytes: int = Field(4 * 1024 * 1024, gt=0, description="of an answer in JSON")
    max_evidence_bytes: int = Field(32 * 1024 * 1024, gt=0, description="of /explanations")
