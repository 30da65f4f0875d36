"""Counts floating-point operations: work that does not depend on the machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

__all__ = ["count_flops"]


def count_flops(thing: Callable[[], object]) -> int:
    """Operations of a call's convolutions, matrix products and attention.

    A multiply-add counts as two; separate additions, norms and activations are not counted.
    """
    with FlopCounterMode(display=False, custom_mapping={_ONEDNN: _onednn_flops}) as counter:
        thing()
    return int(counter.get_total_flops())


# The counter does not know the operator that `OneDNNConv3d` calls.
_ONEDNN = torch.ops.aten.mkldnn_convolution


def _onednn_flops(
    x_shape: torch.Size, w_shape: torch.Size, *args: Any, out_shape: torch.Size, **kwargs: Any
) -> int:
    return int(conv_flop_count(list(x_shape), list(w_shape), list(out_shape)))
