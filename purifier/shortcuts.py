"""What fast mode leaves out of purification, each shortcut by itself.

Exact mode takes none of them and keeps the published procedure's votes. What each saves and costs
is measured in docs/benchmarks.md.
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
    """Work that method `videopure` saves; the other methods ignore it.

    Args:
        inversion_frames: frames that the UNet sees while inverting, the first ones; of what it
            predicts, the first frame's noise alone is used. None shows it all.
        inversion_jump: one UNet call on the way up, straight to the highest noise level.
        feature_interval: the UNet's inner blocks are computed in every so many denoising steps,
            and what they returned is used again in between (DeepCache, arXiv 2312.00858). Of UNets:
            a transformer's blocks are computed in every step.
        feature_levels: levels of the UNet, from full resolution on, that are not inner blocks and
            so computed in every step.
        last_votes: so many of the last candidates are decoded and vote; None lets all vote.
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
    """Predicts the noise of successive denoising steps, with inner blocks computed now and then.

    Args:
        unet: with `down_blocks`, `mid_block` and `up_blocks`, as those of diffusers.
        predict_noise: calls it.
        interval: steps from one whole computation to the next.
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
        """Within, the inner blocks return what they returned before."""
        # Usually none, for `forward` is the class's; accelerate's hooks put one there.
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
