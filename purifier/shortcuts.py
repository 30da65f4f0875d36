"""The shortcuts of fast mode, which leave out parts of purification.

Exact mode uses none of them and keeps the published procedure's votes. docs/benchmarks.md measures
what each of them saves and costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from videopure.purifier.sampling import PredictNoise

__all__ = ["FAST", "FeatureReuse", "Shortcuts"]


@dataclass(frozen=True)
class Shortcuts:
    """Work that method `videopure` leaves out; the other methods ignore this.

    Args:
        inversion_frames: number of leading frames that the UNet sees during inversion, which uses
            the noise predicted for the first frame only. None shows it all frames.
        inversion_jump: one UNet call on the way up, straight to the highest noise level.
        feature_interval: the UNet's inner blocks are computed once in this many denoising steps,
            and their outputs are reused in between (DeepCache, arXiv 2312.00858). UNets only: a
            transformer's blocks are computed in every step.
        feature_levels: outer levels of the UNet, starting at full resolution, that do not count as
            inner blocks and are computed in every step.
        last_votes: only this many of the last candidates are decoded and vote; None lets all vote.
    """

    inversion_frames: int | None = None
    inversion_jump: bool = False
    feature_interval: int = 1
    feature_levels: int = 1
    last_votes: int | None = None

    def __post_init__(self) -> None:
        for argument in ("inversion_frames", "feature_interval", "feature_levels", "last_votes"):
            value = getattr(self, argument)
            if value is not None and value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}")

    def voters(self, candidates: int) -> int:
        """How many of the candidates vote."""
        return candidates if self.last_votes is None else min(candidates, self.last_votes)


# Lost none of the demo's clips that exact mode keeps; measure with `videopure evaluate`.
FAST = Shortcuts(inversion_frames=1, inversion_jump=True, feature_interval=2, last_votes=1)


class FeatureReuse:
    """Predicts the noise of successive denoising steps, computing inner blocks at intervals.

    Args:
        unet: with `down_blocks`, `mid_block` and `up_blocks`, as in diffusers.
        predict_noise: calls the UNet.
        interval: steps from one full computation to the next.
        levels: outer levels that are computed in every step.
    """

    def __init__(
        self, unet: Any, predict_noise: PredictNoise, interval: int, levels: int = 1
    ) -> None:
        up_blocks = list(unet.up_blocks)
        inner = [
            *unet.down_blocks[levels:],
            unet.mid_block,
            *up_blocks[: max(0, len(up_blocks) - levels)],
        ]
        self._blocks: list[nn.Module] = [block for block in inner if block is not None]
        self._predict_noise = predict_noise
        self._interval = interval
        self._step = 0
        self._outputs: dict[nn.Module, Any] = {}

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        """See `PredictNoise`."""
        if self._step % self._interval == 0:
            self._outputs.clear()
        self._step += 1
        with self._replaced():
            return self._predict_noise(latents, timestep)

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        """Inside, the inner blocks return their stored outputs."""
        # Usually none, as `forward` belongs to the class; accelerate's hooks set one.
        before = [vars(block).get("forward") for block in self._blocks]
        for block in self._blocks:
            block.forward = self._remembering(block)
        try:
            yield
        finally:
            for block, forward in zip(self._blocks, before, strict=True):
                del block.forward
                if forward is not None:
                    block.forward = forward

    def _remembering(self, block: nn.Module) -> Any:
        compute = block.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if block not in self._outputs:
                self._outputs[block] = compute(*args, **kwargs)
            return self._outputs[block]

        return forward
