"""Diffusion models of other kinds: velocity instead of noise, AnimateDiff, another decoder."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, PNDMScheduler
from torch import Tensor, nn

from tests.support.models import tiny_recogniser
from tests.support.pipelines import (
    TEXT_TO_VIDEO,
    change_scheduler,
    save_tiny_decoder,
    tiny_motion_unet,
)
from videopure.purifier import METHODS, DefendedRecogniser, VideoPurePipeline
from videopure.purifier.networks import PromptEmbedding
from videopure.purifier.schedule import as_ddim, noise_of_velocity

pytestmark = pytest.mark.unit


def load(folder: Path = TEXT_TO_VIDEO, **parts: object) -> VideoPurePipeline:
    pipeline = VideoPurePipeline.from_pretrained(folder, local_files_only=True, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def plain() -> VideoPurePipeline:
    return load()


def clips(batch: int = 1, frames: int = 3) -> Tensor:
    """Random clips [B, T, 3, 16, 24] in 0..1."""
    return torch.rand(batch, frames, 3, 16, 24, generator=torch.Generator().manual_seed(5))


class AsVelocity(nn.Module):
    """A UNet that says in velocity what another one says in noise."""

    def __init__(self, unet: nn.Module, alphas: Tensor) -> None:
        super().__init__()
        self.unet, self.alphas = unet, alphas
        self.config, self.dtype, self.device = unet.config, unet.dtype, unet.device

    def forward(self, sample: Tensor, timestep: int, encoder_hidden_states: Tensor) -> object:
        out = self.unet(sample, timestep, encoder_hidden_states=encoder_hidden_states)
        alpha = self.alphas[timestep]
        # v = sqrt(A) noise - sqrt(1 - A) x0, by which it is defined.
        x0 = (sample - (1 - alpha).sqrt() * out.sample) / alpha.sqrt()
        return type(out)(sample=alpha.sqrt() * out.sample - (1 - alpha).sqrt() * x0)


@pytest.mark.parametrize("timestep", [1, 101, 981])
def test_velocity_becomes_the_noise_that_ddim_itself_makes_of_it(timestep: int) -> None:
    scheduler = DDIMScheduler.from_pretrained(TEXT_TO_VIDEO / "scheduler")
    scheduler.register_to_config(prediction_type="v_prediction")
    scheduler.set_timesteps(50)
    torch.manual_seed(0)
    velocity, latents = torch.randn(2, 1, 4, 3, 2, 3)
    step = scheduler.step(velocity, timestep, latents)
    alpha = float(scheduler.alphas_cumprod[timestep])
    noise = noise_of_velocity(velocity, latents, alpha)
    x0 = (latents - (1 - alpha) ** 0.5 * noise) / alpha**0.5
    torch.testing.assert_close(x0, step.pred_original_sample)
    epsilon = DDIMScheduler.from_config(scheduler.config, prediction_type="epsilon")
    epsilon.set_timesteps(50)
    ours = epsilon.step(noise, timestep, latents)
    torch.testing.assert_close(ours.prev_sample, step.prev_sample)


@pytest.mark.extended
@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_velocity_purifies_as_the_same_model_of_noise(
    plain: VideoPurePipeline, method: str, tmp_path: Path
) -> None:
    noise = plain
    velocity = load(change_scheduler(tmp_path / "v", prediction_type="v_prediction"))
    velocity.unet = AsVelocity(noise.unet, noise.scheduler.alphas_cumprod)
    options = {"inversion_steps": 1, "method": method, "output_type": "latent"}
    seed = torch.Generator()
    ours = velocity(clips(), generator=seed.manual_seed(1), **options).latents
    expected = noise(clips(), generator=seed.manual_seed(1), **options).latents
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-3)
    # And what it says is not taken for noise.
    velocity.scheduler.register_to_config(prediction_type="epsilon")
    mistaken = velocity(clips(), generator=seed.manual_seed(1), **options).latents
    assert (mistaken - expected).abs().mean().item() > 5e-3


def test_a_scheduler_of_another_kind_lends_its_noise_schedule(plain: VideoPurePipeline) -> None:
    pndm = PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1)
    ddim = as_ddim(pndm)
    assert torch.equal(ddim.alphas_cumprod, pndm.alphas_cumprod)
    assert (ddim.config.clip_sample, ddim.config.steps_offset) == (False, 1)
    config = DDIMScheduler.load_config(TEXT_TO_VIDEO / "scheduler")
    known = DDIMScheduler.from_config(config)
    assert as_ddim(known) is known
    pipeline = load(scheduler=PNDMScheduler.from_config(config))
    expected = plain(clips(), inversion_steps=1).candidates
    torch.testing.assert_close(pipeline(clips(), inversion_steps=1).candidates, expected)


@pytest.mark.parametrize("frames", [2, 5])
def test_animatediffs_unet_purifies_each_clip_for_itself(frames: int) -> None:
    pipeline = load(unet=tiny_motion_unet(frames=5))
    both = pipeline(clips(2, frames), inversion_steps=1)
    assert both.candidates.shape == (2, 3, frames, 3, 16, 24)
    for row in range(2):
        alone = pipeline(clips(2, frames)[row : row + 1], inversion_steps=1)
        torch.testing.assert_close(both.latents[row], alone.latents[0], rtol=0, atol=2e-4)


def test_animatediffs_motion_modules_see_the_other_frames() -> None:
    pipeline = load(unet=tiny_motion_unet())
    torch.manual_seed(0)
    latents = torch.randn(1, 4, 3, 2, 3)
    changed = latents.clone()
    changed[:, :, 2] += 1
    difference = pipeline.predict_noise(latents, 21) - pipeline.predict_noise(changed, 21)
    assert difference[:, :, 0].abs().max().item() > 1e-4


def test_more_frames_than_a_motion_module_knows_are_refused() -> None:
    pipeline = load(unet=tiny_motion_unet(frames=4))
    with pytest.raises(ValueError, match="at most 4 frames for this pipeline, got 5"):
        pipeline(clips(frames=5))
    with pytest.raises(ValueError, match="takes 5 frames, and the purifier at most 4: use a"):
        DefendedRecogniser(pipeline, tiny_recogniser(5, (16, 24)))
    DefendedRecogniser(pipeline, tiny_recogniser(4, (16, 24)))


def test_another_decoder_decodes_the_same_latents(plain: VideoPurePipeline, tmp_path: Path) -> None:
    decoder = AutoencoderTiny.from_pretrained(save_tiny_decoder(tmp_path / "decoder"))
    fast = load(decoder=decoder)
    encoded = plain.encode(clips())
    assert torch.equal(fast.encode(clips()), encoded)
    assert torch.equal(
        fast(clips(), inversion_steps=0).latents, plain(clips(), inversion_steps=0).latents
    )
    # Its latents carry no scaling of their own: they enter as the UNet sees them.
    frames = encoded.transpose(1, 2)[0]  # [T, C, h, w]
    with torch.no_grad():
        expected = (decoder.decode(frames).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(fast.decode(encoded)[0], expected)
    fast.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    torch.testing.assert_close(again.decode(encoded), fast.decode(encoded))


def test_a_defended_recogniser_moves_every_part(tmp_path: Path) -> None:
    decoder = AutoencoderTiny.from_pretrained(save_tiny_decoder(tmp_path / "decoder"))
    pipeline = load(decoder=decoder)
    pipeline.flow_estimator = nn.Conv2d(1, 1, 1)
    defended = DefendedRecogniser(pipeline, tiny_recogniser(3, (16, 24))).to(torch.float64)
    parts = (pipeline.vae, pipeline.unet, decoder, pipeline.flow_estimator)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in defended.parameters())


def _wrong_latents() -> dict[str, object]:
    return {"vae": AutoencoderKL(latent_channels=8, block_out_channels=(4,), norm_num_groups=1)}


def _wrong_text() -> dict[str, object]:
    return {"prompt_embedding": PromptEmbedding(77, 48)}


def _wrong_decoder() -> dict[str, object]:
    scales = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    channels = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    return {"decoder": AutoencoderTiny(latent_channels=4, **scales, **channels)}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (_wrong_latents, r"unet\.in_channels is 4, but the vae's latents have 8 channels: use the"),
        (_wrong_text, "prompt_embedding has 48 features, but the unet takes 32: embed the prompt"),
        (_wrong_decoder, "decoder takes 4 channels and enlarges by .*: use a decoder distilled"),
    ],
)
def test_parts_that_do_not_fit_are_named(
    parts: Callable[[], dict[str, object]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(**parts())


def test_what_a_model_predicts_must_be_known(tmp_path: Path) -> None:
    folder = change_scheduler(tmp_path / "x", prediction_type="sample")
    with pytest.raises(ValueError, match="must be one of epsilon, v_prediction, got 'sample'"):
        load(folder)
