"""CUDA graphs: a denoiser's kernels are recorded once, then launched together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CUDAGraphs"]

logger = logging.getLogger(__name__)

# As torch recommends: lazy initialisation must be finished before recording.
WARM_UPS = 3

# (latents [B, C, T, h, w], the network's time as a tensor [1] on their device) -> output, of any
# shape.
Predict = Callable[[Tensor, Tensor], Tensor]
_Key = tuple[torch.Size, torch.dtype]


@dataclass(frozen=True, eq=False)
class _Recorded:
    """A graph, and the tensors that it reads from and writes to."""

    graph: torch.cuda.CUDAGraph
    latents: Tensor
    timestep: Tensor
    output: Tensor


class CUDAGraphs:
    """Calls a function by replaying its kernels, recorded once for each shape of latents.

    With a small network, or few latents, a GPU waits for Python to launch each kernel; a replay
    launches all of them at once. Each recorded shape keeps the memory of its activations, so the
    number of shapes is limited: for further shapes the function is called directly, which is
    logged once per shape.

    The function must do the same work for every call of a shape, at fixed addresses: weights that
    move, such as offloaded ones, do not work with graphs.

    Args:
        predict: calls the network, without gradients.
        most: maximum number of recorded shapes.
    """

    def __init__(self, predict: Predict, most: int = 4) -> None:
        self._predict = predict
        self._most = most
        self._recorded: dict[_Key, _Recorded] = {}
        self._called: set[_Key] = set()

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        """The function's output, in memory of its own.

        Args:
            latents: [B, C, T, h, w] on a GPU.
            timestep: the network's time; an int in all calls, or a float in all calls.
        """
        key = (latents.shape, latents.dtype)
        if key not in self._recorded:
            if len(self._recorded) >= self._most:
                self._say_once(key)
                return self._predict(latents, torch.tensor([timestep], device=latents.device))
            self._recorded[key] = _record(self._predict, latents, timestep)
        recorded = self._recorded[key]
        recorded.latents.copy_(latents)
        recorded.timestep.fill_(timestep)
        recorded.graph.replay()
        return recorded.output.clone()  # the next replay writes to the same place

    def _say_once(self, key: _Key) -> None:
        if key not in self._called:
            self._called.add(key)
            logger.warning(
                "latents of shape %s are purified without a CUDA graph: %d shapes have one already",
                tuple(key[0]),
                self._most,
            )


def _record(predict: Predict, latents: Tensor, timestep: float) -> _Recorded:
    """Record one call on copies of its arguments."""
    own = latents.clone()
    step = torch.tensor([timestep], device=latents.device)
    with torch.cuda.device(latents.device):
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                predict(own, step)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = predict(own, step)
    return _Recorded(graph, own, step, output)
