"""The defences that an evaluation lines up around one archive's recogniser and purifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from videopure.evaluation.defences.base import Cleaned, Defence, LastVotes, OneCandidate, Purified
from videopure.evaluation.defences.filters import (
    gaussian_blur,
    h264,
    jpeg,
    temporal_median,
    temporal_shuffle,
)
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.guidance import Guidance
from videopure.purifier.methods import Purification, VideoPure
from videopure.purifier.randomisation import Randomisation
from videopure.purifier.settings import PurifySettings
from videopure.purifier.shortcuts import FAST, Shortcuts

__all__ = [
    "ALL_FRAMES",
    "DDIM",
    "DDPM",
    "FASTER",
    "FIRST",
    "FORM",
    "H264",
    "INVERSION",
    "JPEG",
    "LAST",
    "MORE_STEPS",
    "NONE",
    "UNGUIDED",
    "VIDEOPURE",
    "fast_forms",
    "line_up",
    "randomised_forms",
]

NONE = "none"
JPEG = "JPEG quality 20"
H264 = "H.264 crf 35"
DDPM = "DDPM (DiffPure)"
DDIM = "DDIM"
INVERSION = "DDIM inversion"
VIDEOPURE = "VideoPure"
UNGUIDED = f"{VIDEOPURE} without guidance"
FIRST = f"{VIDEOPURE} without vote, first candidate"
LAST = f"{VIDEOPURE} without vote, last candidate"
ALL_FRAMES = f"{VIDEOPURE} with all-frame inversion"
FORM = f"{VIDEOPURE}, "  # with what is drawn: a randomised form
FASTER = f"{VIDEOPURE} fast"  # fast mode, and with a colon one shortcut alone
MORE_STEPS = " at t="  # a method at more steps than the archive's

SMOOTHING_SIGMA = 0.03
SMOOTHING_DRAWS = 8


class WithoutGuidance(VideoPure):
    """VideoPure with the unguided estimates as candidates."""

    def guidance(self) -> Guidance:
        """No iterations."""
        return Guidance(iterations=0)


class AllFrameInversion(VideoPure):
    """VideoPure with plain DDIM inversion: every frame keeps the noise predicted for it."""

    def invert(self, encoded: Tensor) -> Tensor:
        """Inversion of all frames."""
        return self.pipeline.invert(encoded, self.schedule, temporal=False)[-1]


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


def fast_forms(settings: PurifySettings) -> dict[str, dict[str, Any]]:
    """Settings of fast mode, of every shortcut alone and of one step fewer, by name."""
    frames, last = FAST.inversion_frames, FAST.last_votes
    alone = {
        f"inversion of {frames} of the frames": Shortcuts(inversion_frames=frames),
        "inversion in one step": Shortcuts(inversion_jump=True),
        f"last {last} of the votes": Shortcuts(last_votes=last),
        "middle block every 2 steps": Shortcuts(feature_interval=2, feature_levels=2),
        "inner blocks every 2 steps": Shortcuts(feature_interval=2),
        "without reused blocks": replace(FAST, feature_interval=1),
    }
    forms: dict[str, dict[str, Any]] = {FASTER: {"speed": "fast", "shortcuts": Shortcuts()}}
    for name, shortcuts in alone.items():
        forms[f"{FASTER}: {name}"] = {"speed": "custom", "shortcuts": shortcuts}
    if settings.inversion_steps > 0:
        forms[f"{FASTER}: one step fewer"] = {"inversion_steps": settings.inversion_steps - 1}
    return forms


def line_up(defended: DefendedRecogniser) -> dict[str, Defence]:
    """All defences by name, in the order of the table."""
    recogniser, settings = defended.recogniser, defended.settings
    listed = [*_filters(defended)]

    def purified(
        name: str,
        purification: type[Purification] | None = None,
        **changes: Any,
    ) -> None:
        changed = settings.override(**{"method": "videopure", **changes})
        listed.append(
            Purified(name, DefendedRecogniser(defended.pipeline, recogniser, changed, purification))
        )

    # VideoPure calls the UNet 2 (t + 1) times, and so does plain inversion; DDIM calls it t + 1
    # times, and as often as VideoPure at 2 t + 1; DDPM 20 t + 1 times.
    more = 2 * settings.inversion_steps + 1
    purified(DDPM, method="ddpm")
    purified(f"{DDPM}{MORE_STEPS}{more}", method="ddpm", inversion_steps=more)
    purified(DDIM, method="ddim")
    purified(f"{DDIM}{MORE_STEPS}{more}", method="ddim", inversion_steps=more)
    purified(INVERSION, method="ddim_inversion")
    purified(UNGUIDED, WithoutGuidance, randomisation=Randomisation())
    purified(ALL_FRAMES, AllFrameInversion, randomisation=Randomisation())
    drawing_nothing = settings.override(method="videopure", randomisation=Randomisation())
    voting = DefendedRecogniser(defended.pipeline, recogniser, drawing_nothing)
    last_votes = LastVotes(voting)
    listed.append(OneCandidate(FIRST, voting, 0, last_votes))
    listed.append(OneCandidate(LAST, voting, -1, last_votes))
    listed.append(Purified(VIDEOPURE, defended))
    for name, randomisation in randomised_forms(settings).items():
        purified(f"{FORM}{name}", randomisation=randomisation)
    for name, speed in fast_forms(settings).items():
        purified(name, randomisation=Randomisation(), **speed)
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
        plain(JPEG, jpeg, exact=False),
        plain(H264, h264, exact=False),
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
