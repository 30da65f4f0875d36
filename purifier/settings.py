"""The settings of a purifier, in one object."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Le

from videopure.purifier.guidance import PUBLISHED_SHAPE, Guidance
from videopure.purifier.methods import METHODS, PURIFICATIONS, Method
from videopure.purifier.one_look import OneLook
from videopure.purifier.randomisation import Randomisation
from videopure.purifier.shortcuts import FAST, Shortcuts

__all__ = ["PurifySettings", "Speed", "VotesMode"]

VotesMode = Literal["early", "full"]
Speed = Literal["exact", "fast", "custom"]


@dataclass(frozen=True)
class PurifySettings:
    """How clips are purified and voted on; the `purification` section of model-config.yaml.

    The bounds in the types are checked where the section is read.

    Args:
        inversion_steps: the paper's t; t + 1 steps are taken each way.
        num_inference_steps: steps of the full schedule; only the lowest are visited.
        guidance_reference: see `Guidance.reference`.
        method: see `VideoPurePipeline.__call__`.
        votes: `early` stops when no remaining vote can change the label, `full` counts all.
        suspicion_threshold: clips with higher suspicion are flagged as adversarial; None if not
            calibrated.
        change_threshold: clips that purification changes more are flagged as unlike those that
            the purifier was trained on; see `Verdict.change`. None if not calibrated.
        randomisation: what is drawn for every clip; nothing by default. Its `step_range` replaces
            `inversion_steps`.
        speed: `exact` computes the published procedure's votes, `fast` uses the shortcuts of
            `shortcuts.FAST`, `custom` those of `shortcuts`.
        shortcuts: those of speed `custom`.
        one_look: settings of method `one_look`.
    """

    inversion_steps: Annotated[int, Ge(0)] = 5
    num_inference_steps: Annotated[int, Ge(1)] = 50
    guidance_reference: tuple[int, int, int, int] | None = PUBLISHED_SHAPE
    method: Method = "videopure"
    votes: VotesMode = "early"
    suspicion_threshold: Annotated[float, Ge(0), Le(1)] | None = None
    randomisation: Randomisation = Randomisation()  # noqa: RUF009  frozen
    speed: Speed = "exact"
    shortcuts: Shortcuts = Shortcuts()  # noqa: RUF009  frozen
    one_look: OneLook = OneLook()  # noqa: RUF009  frozen
    # Not in the repr, by which checkpoints of training tell how clips are purified: it has no part
    # in that.
    change_threshold: Annotated[float, Ge(0), Le(1)] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.votes not in get_args(VotesMode):
            raise ValueError(f"votes must be 'early' or 'full', got {self.votes!r}")
        if self.speed not in get_args(Speed):
            raise ValueError(
                f"speed must be one of {', '.join(get_args(Speed))}, got {self.speed!r}"
            )
        if self.speed != "custom" and self.shortcuts != Shortcuts():
            raise ValueError(
                f"shortcuts are for speed 'custom', got {self.shortcuts} with {self.speed!r}"
            )
        if self.randomisation.random_anchor and (
            self.effective_shortcuts.inversion_frames is not None
        ):
            raise ValueError(
                "randomisation.random_anchor must be False with shortcuts.inversion_frames, which "
                "shows the UNet the first frames only"
            )
        _ = self.guidance  # checks guidance_reference

    def override(self, **changes: Any) -> PurifySettings:
        """These settings with every change that is not None."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})

    @property
    def guidance(self) -> Guidance:
        """Weights of the guided update."""
        return Guidance(reference=self.guidance_reference)

    @property
    def effective_shortcuts(self) -> Shortcuts:
        """The shortcuts that this method and speed use."""
        if not PURIFICATIONS[self.method].adjustable:
            return Shortcuts()
        return FAST if self.speed == "fast" else self.shortcuts

    @property
    def effective_randomisation(self) -> Randomisation:
        """What is drawn for a clip with this method."""
        return self.randomisation if PURIFICATIONS[self.method].adjustable else Randomisation()

    @property
    def randomised(self) -> bool:
        """Whether a clip is purified differently with another seed."""
        return PURIFICATIONS[self.method].randomised or self.effective_randomisation.active
