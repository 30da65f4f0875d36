"""The noise levels that a purifier has learned, as `videopure train` writes into its model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videopure.archive.licences import front_matter
from videopure.format.settings import ModelConfig

__all__ = ["MAX_TIMESTEP", "within_learned"]

MAX_TIMESTEP = "max_timestep"  # key of the card's front matter: the highest train step of 1,000
_TRAIN_STEPS = 1000


def within_learned(config: Mapping[str, Any], pipeline: Path) -> tuple[dict[str, Any], str | None]:
    """The configuration with the paper's t at no more than the purifier has learned.

    A t that the configuration sets is left as it is.

    Args:
        config: model-config.yaml, checked.
        pipeline: folder of the purifier.

    Returns:
        The configuration, and what there is to say about t; None where the card names no levels.
    """
    learned = front_matter(pipeline / "README.md").get(MAX_TIMESTEP)
    if not isinstance(learned, int) or isinstance(learned, bool):
        return dict(config), None
    settings = ModelConfig.parse(config).videopure
    purification = settings.purification
    # t + 1 levels are visited, the highest at train step (t + 1) * stride.
    most = max(0, learned * purification.num_inference_steps // _TRAIN_STEPS - 1)
    section = dict(config.get("videopure") or {})
    asked = dict(section.get("purification") or {})
    if "inversion_steps" in asked:
        if purification.inversion_steps <= most:
            return dict(config), None
        return dict(config), (
            f"inversion_steps {purification.inversion_steps} visits noise levels that the purifier "
            f"has not learned: it was trained for at most {most}"
        )
    steps = min(most, purification.inversion_steps)
    section["purification"] = {**asked, "inversion_steps": steps}
    section.setdefault("max_inversion_steps", most)
    return {**config, "videopure": section}, (
        f"inversion_steps is {steps}: the purifier was trained for at most {most}"
    )
