"""The published demo's diffusion model stays as it was trained; its log says how."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState

from videopure.demo.train import UNET
from videopure.motions import BUNDLE
from videopure.motions.bundle_files import load_defended
from videopure.motions.clips import Stream
from videopure.motions.dataset import TrainingClips, load_split
from videopure.purifier.networks.patch_codec import PatchCodec
from videopure.training.compact import assemble
from videopure.training.unet import UNetTrainer, denoising_psnr

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


@pytest.mark.slow
def test_the_recipe_learns_as_fast_as_it_did_for_these_weights(
    log: dict[str, Any], tmp_path: Path
) -> None:
    """A fifteenth of the steps: by then the loss is a quarter of what it began with."""
    torch.manual_seed(UNET.seed)
    codec = PatchCodec.from_pretrained(BUNDLE / "pipeline" / "vae", torch_dtype=torch.float32)
    clips = TrainingClips.prepare(tmp_path, 600)
    nothing = torch.empty(0, 16, 3, 64, 64)
    state = PartialState(cpu=True)
    trainer = UNetTrainer(assemble(codec, "M"), clips, nothing, UNET, state, "float32")
    losses = torch.tensor([trainer.step(index)["loss"] for index in range(240)])
    trainer.ahead.close()
    expected = {entry["step"]: entry["loss"] for entry in log["curve"]}
    for last in (120, 240):
        found = float(losses[last - 60 : last].mean())
        assert found == pytest.approx(expected[last], rel=0.1)
