"""The published demo's diffusion model stays as it was trained; its log says how."""

import json
from typing import Any

import pytest

from videopure.demo.train import UNET
from videopure.motions import BUNDLE
from videopure.motions.bundle_files import load_defended
from videopure.motions.clips import Stream
from videopure.motions.dataset import load_split
from videopure.training.unet import denoising_psnr

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def log() -> dict[str, Any]:
    """What was written down when the shipped weights were trained."""
    logged: dict[str, Any] = json.loads((BUNDLE / "training_log.json").read_text())["unet"]
    return logged


def test_the_recipe_is_still_that_of_the_weights(log: dict[str, Any]) -> None:
    assert {key: vars(UNET)[key] for key in log["recipe"]} == log["recipe"]


@pytest.mark.slow
def test_the_weights_restore_clips_as_well_as_their_log_says(log: dict[str, Any]) -> None:
    pipeline = load_defended().pipeline
    held_out, _ = load_split(Stream("validation"), 0, 20)
    for timestep in (21, 81):
        restored = denoising_psnr(pipeline, held_out, timestep, seed=0)
        logged = log["validation_one_step_psnr_db"][str(timestep)]
        assert restored == pytest.approx(logged, abs=0.1)  # shipped in half precision
