"""What purification may draw at random, so that an attacker cannot compute it in advance.

Nothing is drawn by default: published VideoPure is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

__all__ = [
    "Generators",
    "Randomisation",
    "draw_integers",
    "draw_noise",
    "draw_noise_by_frame",
    "make_generators",
]

# One for the whole batch, one for each clip, or torch's own.
Generators = Generator | list[Generator] | None


@dataclass(frozen=True)
class Randomisation:
    """What method `videopure` draws for every request; the other methods ignore it.

    Args:
        fresh_noise: reach the highest noise level in one step, with fresh noise that all frames
            share, instead of by temporal inversion. Motion survives as it does there, and the UNet
            is not called on the way up.
        eta: share of fresh noise in the denoising steps (DDIM, arXiv 2010.02502, eq. 16): 0 is
            deterministic, 1 ancestral. The noise is shared by all frames.
        random_anchor: invert with the noise predicted for a random frame, not for the first.
        step_range: draw the inversion steps t uniformly from this range, both ends included.
        max_shift: roll all frames of a clip by the same random offset of at most this many pixels
            in each direction, and roll the purified clip back.
    """

    fresh_noise: bool = False
    eta: float = 0.0
    random_anchor: bool = False
    step_range: tuple[int, int] | None = None
    max_shift: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be in 0..1, got {self.eta}")
        if self.max_shift < 0:
            raise ValueError(f"max_shift must be 0 pixels or more, got {self.max_shift}")
        if self.step_range is not None and not 0 <= self.step_range[0] <= self.step_range[1]:
            raise ValueError(f"step_range must be two ascending counts, got {self.step_range}")
        if self.fresh_noise and self.random_anchor:
            raise ValueError("random_anchor must be False with fresh_noise: nothing is inverted")

    @property
    def active(self) -> bool:
        """Whether anything is drawn."""
        return self != Randomisation()

    def draw_steps(self, inversion_steps: int, generator: Generator) -> int:
        """The t of one request; `inversion_steps` if none is drawn."""
        if self.step_range is None:
            return inversion_steps
        low, high = self.step_range
        return int(torch.randint(low, high + 1, (), generator=generator, device=generator.device))

    def draw_shifts(self, clips: int, generators: Generators) -> list[tuple[int, int]]:
        """Pixels (down, right) by which each clip is rolled; needs one generator per clip."""
        if not self.max_shift:
            return [(0, 0)] * clips
        if not isinstance(generators, list):
            raise ValueError(f"max_shift needs a generator for each clip, got {generators!r}")
        bounds = (-self.max_shift, self.max_shift + 1)
        pairs = [torch.randint(*bounds, (2,), generator=g, device=g.device) for g in generators]
        return [(int(down), int(right)) for down, right in pairs]


def make_generators(
    seeds: Sequence[int | None] | None, clips: int, device: torch.device
) -> list[Generator]:
    """One generator per clip, so that a clip's noise does not depend on its batch mates.

    Without a seed it starts from fresh entropy.
    """
    generators = []
    for seed in seeds or [None] * clips:
        generator = Generator(device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        generators.append(generator)
    return generators


def draw_noise(latents: Tensor, generator: Generators, *, shared: bool = False) -> Tensor:
    """Gaussian noise of the latents' shape [B, C, T, h, w]; `shared`: the same for all frames."""
    batch, channels, frames, height, width = latents.shape
    shape = (batch, channels, 1 if shared else frames, height, width)
    noise = randn_tensor(shape, generator=generator, device=latents.device, dtype=latents.dtype)
    return noise.expand_as(latents)


def draw_noise_by_frame(latents: Tensor, generator: Generators) -> Tensor:
    """Noise for one ancestral step, drawn frame by frame as in the published code."""
    batch, channels, frames, height, width = latents.shape
    shape = (batch, frames, channels, height, width)
    noise = randn_tensor(shape, generator=generator, device=latents.device, dtype=latents.dtype)
    return noise.transpose(1, 2)  # [B, C, T, h, w]


def draw_integers(count: int, below: int, generator: Generators, device: torch.device) -> Tensor:
    """Integers [count] in 0..below - 1, the i-th from the i-th generator of a list."""
    if isinstance(generator, list):
        draws = [torch.randint(below, (1,), generator=g, device=g.device) for g in generator]
        return torch.cat(draws).to(device)
    where = generator.device if generator is not None else device
    return torch.randint(below, (count,), generator=generator, device=where).to(device)
