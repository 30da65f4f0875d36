"""A purifier that learned few noise levels is not asked about others without a word."""

from pathlib import Path
from typing import Any

import pytest

from videopure.archive.learned import within_learned

pytestmark = pytest.mark.unit


def card(folder: Path, front: str) -> Path:
    (folder / "README.md").write_text(f"---\n{front}\n---\n\n# purifier\n", encoding="utf-8")
    return folder


# The published schedule visits every twentieth of 1,000 train steps; t = 2 goes up to step 41.
@pytest.mark.parametrize(("learned", "steps"), [(60, 2), (59, 1), (20, 0), (5, 0), (120, 5)])
def test_the_default_stays_within_what_was_learned(
    tmp_path: Path, learned: int, steps: int
) -> None:
    config, said = within_learned({}, card(tmp_path, f"max_timestep: {learned}"))
    assert config["videopure"]["purification"]["inversion_steps"] == steps
    assert config["videopure"]["max_inversion_steps"] == steps
    assert said is not None
    assert said.startswith(f"inversion_steps is {steps}")


def test_a_t_that_was_asked_for_is_kept_and_told(tmp_path: Path) -> None:
    folder = card(tmp_path, "license: mit\nmax_timestep: 60")
    config: dict[str, Any] = {"videopure": {"purification": {"inversion_steps": 4}}}
    kept, said = within_learned(config, folder)
    assert kept == config
    assert said == (
        "inversion_steps 4 visits noise levels that the purifier has not learned: it was trained "
        "for at most 2"
    )
    config["videopure"]["purification"]["inversion_steps"] = 2
    assert within_learned(config, folder) == (config, None)


@pytest.mark.parametrize("front", ["license: mit", "max_timestep: many", "[", "max_timestep: true"])
def test_a_card_that_names_no_levels_changes_nothing(tmp_path: Path, front: str) -> None:
    config = {"videopure": {"max_clips": 3}}
    assert within_learned(config, card(tmp_path, front)) == (config, None)


def test_a_folder_without_a_card_changes_nothing(tmp_path: Path) -> None:
    assert within_learned({}, tmp_path) == ({}, None)
