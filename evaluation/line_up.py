"""The defences that an evaluation lines up around one archive's recogniser and purifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Generator, Tensor

from videopure.evaluation.defences import Cleaned, Defence, Purified
from videopure.evaluation.filters import (
    gaussian_blur,
    h264,
    jpeg,
    temporal_median,
    temporal_shuffle,
)
from videopure.purifier.defended import DefendedRecogniser, PurifySettings
from videopure.purifier.guidance import Guidance
from videopure.purifier.pipeline import Method
from videopure.purifier.randomisation import Randomisation
from videopure.purifier.schedule import Schedule

__all__ = ["NONE", "VIDEOPURE", "line_up", "randomised_forms"]

NONE = "none"
VIDEOPURE = "VideoPure"

SMOOTHING_SIGMA = 0.03
SMOOTHING_DRAWS = 16


class WithoutGuidance(DefendedRecogniser):
    """VideoPure with the unguided estimates as candidates."""

    def guidance(self, settings: PurifySettings) -> Guidance:
        """No iterations."""
        return Guidance(iterations=0)


class AllFrameInversion(DefendedRecogniser):
    """VideoPure with plain DDIM inversion: every frame keeps the noise predicted for it."""

    def raise_noise(
        self,
        encoded: Tensor,
        schedule: Schedule,
        settings: PurifySettings,
        generator: list[Generator],
    ) -> Tensor:
        """Inversion of all frames."""
        return self.pipeline.invert(encoded, schedule, temporal=False)[-1]


def randomised_forms(settings: PurifySettings) -> dict[str, Randomisation]:
    """The forms of VideoPure that draw, by name."""
    low = max(0, settings.inversion_steps - 1)
    steps = (low, settings.inversion_steps + 2)
    shared = Randomisation(fresh_noise=True, eta=1.0)
    return {
        "fresh noise": shared,
        "ancestral": Randomisation(eta=1.0),
        "random anchor": Randomisation(random_anchor=True),
        f"random t {steps[0]}..{steps[1]}": Randomisation(step_range=steps),
        "random shift": Randomisation(max_shift=4),
        "fresh noise, t and shift": replace(shared, step_range=steps, max_shift=4),
    }


def line_up(defended: DefendedRecogniser) -> dict[str, Defence]:
    """All defences by name, in the order of the table."""
    recogniser, settings = defended.recogniser, defended.settings
    listed = [*_filters(defended)]

    def purified(
        name: str,
        kind: type[DefendedRecogniser] = DefendedRecogniser,
        *,
        last_only: bool = False,
        method: Method = "videopure",
        randomisation: Randomisation | None = None,
    ) -> None:
        changed = settings.override(method=method, randomisation=randomisation)
        other = kind(defended.pipeline, recogniser, changed)
        listed.append(Purified(name, other, last_only=last_only))

    purified("DDPM (DiffPure)", method="ddpm")
    purified("DDIM", method="ddim")
    purified("DDIM inversion", method="ddim_inversion")
    purified(f"{VIDEOPURE} without vote", last_only=True)
    purified(f"{VIDEOPURE} without guidance", WithoutGuidance)
    purified(f"{VIDEOPURE} with all-frame inversion", AllFrameInversion)
    listed.append(Purified(VIDEOPURE, defended))
    for name, randomisation in randomised_forms(settings).items():
        purified(f"{VIDEOPURE}, {name}", randomisation=randomisation)
    return {defence.name: defence for defence in listed}


def _filters(defended: DefendedRecogniser) -> list[Defence]:
    """No defence, and what needs no diffusion model."""
    recogniser, pipeline = defended.recogniser, defended.pipeline

    def plain(
        name: str, clean: Callable[[Tensor], Tensor] | None = None, *, exact: bool = True
    ) -> Defence:
        changed = None if clean is None else partial(_without_seeds, clean)
        return Cleaned(name, recogniser, changed, exact=exact)

    return [
        plain(NONE),
        plain("JPEG quality 20", jpeg, exact=False),
        plain("H.264 crf 35", h264, exact=False),
        plain("Gaussian blur, sigma 2", gaussian_blur),
        plain("temporal median of 3", temporal_median),
        Cleaned("temporal shuffle within 2", recogniser, _shuffle, randomised=True),
        Cleaned("randomised smoothing", recogniser, _smoothing, randomised=True),
        plain("codec round trip", lambda clips: pipeline.decode(pipeline.encode(clips))),
    ]


def _without_seeds(
    clean: Callable[[Tensor], Tensor], clips: Tensor, seeds: Sequence[int]
) -> Tensor:
    return clean(clips)


def _shuffle(clips: Tensor, seeds: Sequence[int]) -> Tensor:
    """Every clip in an order of its own."""
    pairs = zip(clips.split(1), seeds, strict=True)
    return torch.cat([temporal_shuffle(clip, seed=seed) for clip, seed in pairs])


def _smoothing(clips: Tensor, seeds: Sequence[int]) -> Tensor:
    """Noisy versions of every clip to vote on (arXiv 1902.02918): [B, V, T, 3, H, W]."""
    noisy = []
    for clip, seed in zip(clips, seeds, strict=True):
        generator = Generator().manual_seed(seed)
        noise = torch.randn((SMOOTHING_DRAWS, *clip.shape), generator=generator).to(clip)
        noisy.append((clip + SMOOTHING_SIGMA * noise).clamp(0, 1))
    return torch.stack(noisy)
