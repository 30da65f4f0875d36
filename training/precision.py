"""The precision of training: bfloat16 where the chip has it, float32 everywhere else."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch

__all__ = ["Precision", "computing_in", "half_dtype"]

Precision = Literal["auto", "float32", "bfloat16"]


def half_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """bfloat16 where training computes in it, or None for float32.

    `auto` takes bfloat16 on GPUs that have it. Most CPUs emulate it, slower than float32 and less
    accurate: there it is never used.

    Raises:
        ValueError: if it is asked for and the chip does not have it.
    """
    if precision not in get_args(Precision):
        raise ValueError(
            f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}"
        )
    has = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if precision == "bfloat16" and not has:
        raise ValueError(
            f"precision bfloat16 needs a GPU that computes in it, and this {device.type} does "
            "not: use float32"
        )
    return torch.bfloat16 if has and precision != "float32" else None


def computing_in(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """A context in which networks compute in `dtype`, or in float32 where it is None."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
