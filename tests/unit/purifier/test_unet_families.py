"""UNet3D and UNetMotion: both ways are diffusers' own, and gradients pass through all of them."""

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from torch import Tensor

from tests.support.gradients import assert_finite_differences_agree
from tests.support.models import tiny_recogniser
from tests.support.pipelines import TEXT_TO_VIDEO, tiny_motion_unet
from videopure.purifier import DefendedRecogniser, PurifySettings, VideoPurePipeline
from videopure.purifier.sampling import ddim, ddim_inversion

pytestmark = pytest.mark.unit

FRAMES, STEPS = 3, 10


def load(kind: str) -> VideoPurePipeline:
    parts = {"unet": tiny_motion_unet()} if kind == "unet-motion" else {}
    pipeline = VideoPurePipeline.from_pretrained(TEXT_TO_VIDEO, local_files_only=True, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("kind", ["unet3d", "unet-motion"])
@torch.no_grad()
def test_all_levels_up_and_down_are_the_steps_of_diffusers_schedulers(kind: str) -> None:
    pipeline = load(kind)
    schedule = pipeline.schedule(STEPS - 1, STEPS)
    prompt = pipeline.prompt_embedding(1).float()
    if kind == "unet-motion":  # one for each frame, as AnimateDiffPipeline gives it
        prompt = prompt.repeat_interleave(FRAMES, dim=0)

    def noise(sample: Tensor, timestep: int) -> Tensor:
        return pipeline.unet(sample, timestep, encoder_hidden_states=prompt).sample

    latents = torch.randn(1, 4, FRAMES, 2, 3, generator=torch.Generator().manual_seed(9))
    # Its own defaults would clip the latents.
    up = DDIMInverseScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    down = DDIMScheduler.from_config(pipeline.scheduler.config)
    assert not down.config.clip_sample
    sample = latents
    up.set_timesteps(STEPS)
    for timestep in up.timesteps:
        sample = up.step(noise(sample, timestep), timestep, sample).prev_sample
    ours = ddim_inversion(latents, pipeline.predict_noise, schedule, temporal=False)[-1]
    torch.testing.assert_close(ours, sample, rtol=0, atol=2e-5)
    assert (ours - latents).abs().max() > 0.1

    down.set_timesteps(STEPS)
    for timestep in down.timesteps:
        sample = down.step(noise(sample, timestep), timestep, sample).prev_sample
    back = ddim(ours, pipeline.predict_noise, schedule)
    torch.testing.assert_close(back, sample, rtol=0, atol=2e-5)


def test_gradients_through_animatediff_are_those_of_finite_differences() -> None:
    """In float64; UNet3D's are in tests/unit/evaluation/test_exact_gradients.py."""
    pipeline = load("unet-motion")
    pipeline.to(torch.float64)
    pipeline.gradient_checkpointing = True
    recogniser = tiny_recogniser(FRAMES, (16, 24)).to(torch.float64)
    defended = DefendedRecogniser(pipeline, recogniser, PurifySettings(inversion_steps=0))
    generator = torch.Generator().manual_seed(1)
    video, direction = (
        make(1, FRAMES, 3, 16, 24, generator=generator, dtype=torch.float64)
        for make in (torch.rand, torch.randn)
    )
    video = video * 0.9 + 0.05
    assert_finite_differences_agree(defended, video, direction)
