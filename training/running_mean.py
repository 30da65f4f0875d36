"""The running mean of a network's weights, which generalises better than the last ones."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

__all__ = ["RunningMean"]


class RunningMean:
    """Exponential moving average of a network's weights, with a shorter memory at first.

    All floating-point state of the network is averaged, such as the statistics of batch
    normalisation; counters are copied.

    Args:
        network: the network to average; its weights are the first mean.
        decay: share of the mean that a step keeps, in 0..1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Update the mean with the weights after a step, counted from 0."""
        keep = min(self.decay, (1 + step) / (10 + step))
        new = network.state_dict()
        for name, mean in self.network.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(new[name], 1 - keep)
            else:
                mean.copy_(new[name])

    def state_dict(self) -> dict[str, Any]:
        """The state for checkpoints."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.network.load_state_dict(state)
