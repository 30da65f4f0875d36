"""The options of a request: checked by the server, typed for clients."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

__all__ = ["Method", "Options", "RequestOptions", "VotesMode"]

# The purifier's values, which clients need not have installed; a test compares them.
Method = Literal["videopure", "one_look", "ddim_inversion", "ddim", "ddpm"]
VotesMode = Literal["early", "full"]


class RequestOptions(TypedDict, total=False):
    """The options of a request, for type checkers; the archive's settings replace missing ones."""

    top_k: int
    inversion_steps: int
    votes: VotesMode
    seed: int
    method: Method
    purify: bool
    clips: int | Literal["auto"]


class Options(BaseModel):
    """What a request may choose; None takes the archive's setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int = Field(5, ge=1, description="predictions in the answer")
    inversion_steps: int | None = Field(None, ge=0, description="the paper's t")
    votes: VotesMode | None = Field(None, description="count all votes, or enough")
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="seed of the methods that draw noise"
    )
    method: Method | None = Field(None, description="how to purify")
    purify: bool = Field(True, description="false asks only the bare recogniser")
    clips: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        None, description="number of equal parts of the video, each used as a clip; auto: by length"
    )

    @field_validator("top_k", "inversion_steps", "seed", "clips", mode="before")
    @classmethod
    def _refuse_truth(cls, value: Any) -> Any:
        if isinstance(value, bool):  # which pydantic reads as 0 or 1
            raise PydanticCustomError("number", "Input should be a number")
        return value
