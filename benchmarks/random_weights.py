"""Networks of published configurations with random weights, created in their final dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn

__all__ = ["random_weights"]


def random_weights(
    make: Callable[[], Any], device: str | torch.device = "cpu", dtype: torch.dtype = torch.bfloat16
) -> Any:
    """The diffusers model that `make` returns, with random weights that keep numbers finite.

    No copy in float32 is ever made. Modules that the class always keeps in float32 are in float32,
    as in a model that diffusers loads.
    """
    with init_empty_weights():  # parameters without memory; buffers keep their values
        network = make()
    kept = set(getattr(network, "_keep_in_fp32_modules", None) or ())
    torch.manual_seed(0)
    for module_name, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            path = f"{module_name}.{name}"
            own = torch.float32 if kept & set(path.split(".")) else dtype
            value = torch.empty(parameter.shape, dtype=own, device=device)
            module.register_parameter(name, nn.Parameter(_fill(path, value), requires_grad=False))
    return network.to(device).eval()


@torch.no_grad()
def _fill(path: str, value: torch.Tensor) -> torch.Tensor:
    """Norms of scale 1, zero biases, and normal weights that preserve the variance."""
    if path.endswith("gamma") or (value.ndim == 1 and path.endswith("weight")):
        return value.fill_(1)
    return value.normal_(std=value[0].numel() ** -0.5) if value.ndim > 1 else value.zero_()
