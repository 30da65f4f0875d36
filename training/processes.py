"""Collective operations of several processes that train together."""

from __future__ import annotations

from collections.abc import Iterable

from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor

__all__ = ["average"]


def average(tensors: Iterable[Tensor], state: PartialState) -> None:
    """Make tensors the mean over all processes, in place."""
    if state.num_processes > 1:
        for tensor in tensors:
            tensor.copy_(reduce(tensor, reduction="mean"))
