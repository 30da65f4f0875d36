"""VideoPure as it is served, without some of its parts, and other purifiers of its pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from videopure.evaluation.defences.base import Defence, LastVotes, OneCandidate, Purified
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.guidance import Guidance
from videopure.purifier.methods import Method, Purification, VideoPure
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
    "GUIDED_LOOK",
    "INVERSION",
    "LAST",
    "MORE_STEPS",
    "ONE_LOOK",
    "UNGUIDED",
    "VIDEOPURE",
    "defences",
    "fast_forms",
    "randomised_forms",
    "served_name",
]

DDPM = "DDPM (DiffPure)"
DDIM = "DDIM"
INVERSION = "DDIM inversion"
VIDEOPURE = "VideoPure"
ONE_LOOK = "one look"
GUIDED_LOOK = f"{ONE_LOOK}, guided"
UNGUIDED = f"{VIDEOPURE} without guidance"
FIRST = f"{VIDEOPURE} without vote, first candidate"
LAST = f"{VIDEOPURE} without vote, last candidate"
ALL_FRAMES = f"{VIDEOPURE} with all-frame inversion"
FORM = f"{VIDEOPURE}, "  # followed by what is random: a randomised form
FASTER = f"{VIDEOPURE} fast"  # fast mode; with a colon, one shortcut alone
MORE_STEPS = " at t="  # a method with more steps than the archive's


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


def served_name(settings: PurifySettings) -> str:
    """The row of the tables for what an archive with these settings serves."""
    look = GUIDED_LOOK if settings.one_look.guided else ONE_LOOK
    names: dict[Method, str] = {
        "videopure": VIDEOPURE,
        "one_look": look,
        "ddim": DDIM,
        "ddim_inversion": INVERSION,
        "ddpm": DDPM,
    }
    return names[settings.method]


def randomised_forms(settings: PurifySettings) -> dict[str, Randomisation]:
    """The randomised forms of VideoPure, by name."""
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


def defences(defended: DefendedRecogniser) -> Iterator[Defence]:
    """All of them, in the order of the table."""
    recogniser, settings = defended.recogniser, defended.settings

    def purified(
        name: str,
        purification: type[Purification] | None = None,
        **changes: Any,
    ) -> Purified:
        changed = settings.override(**{"method": "videopure", **changes})
        return Purified(
            name, DefendedRecogniser(defended.pipeline, recogniser, changed, purification)
        )

    # VideoPure and plain inversion call the UNet 2 (t + 1) times; DDIM calls it t + 1 times, and as
    # often as VideoPure at 2 t + 1 steps; DDPM 20 t + 1 times.
    more = 2 * settings.inversion_steps + 1
    yield purified(DDPM, method="ddpm")
    yield purified(f"{DDPM}{MORE_STEPS}{more}", method="ddpm", inversion_steps=more)
    yield purified(DDIM, method="ddim")
    yield purified(f"{DDIM}{MORE_STEPS}{more}", method="ddim", inversion_steps=more)
    yield purified(INVERSION, method="ddim_inversion")
    yield purified(UNGUIDED, WithoutGuidance, randomisation=Randomisation())
    yield purified(ALL_FRAMES, AllFrameInversion, randomisation=Randomisation())
    drawing_nothing = settings.override(method="videopure", randomisation=Randomisation())
    voting = DefendedRecogniser(defended.pipeline, recogniser, drawing_nothing)
    last_votes = LastVotes(voting)
    yield OneCandidate(FIRST, voting, 0, last_votes)
    yield OneCandidate(LAST, voting, -1, last_votes)
    yield purified(VIDEOPURE)
    look = replace(settings.one_look, guided=False)
    yield purified(ONE_LOOK, method="one_look", one_look=look)
    yield purified(GUIDED_LOOK, method="one_look", one_look=replace(look, guided=True))
    for name, randomisation in randomised_forms(settings).items():
        yield purified(f"{FORM}{name}", randomisation=randomisation)
    for name, speed in fast_forms(settings).items():
        yield purified(name, randomisation=Randomisation(), **speed)
