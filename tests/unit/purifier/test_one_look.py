"""Purification in one look: against the stock scheduler and finite differences."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from tests.parity import FIXTURE, load_pipeline
from tests.support.models import tiny_recogniser
from videopure.purifier import DefendedRecogniser, Guidance, OneLook, PurifySettings
from videopure.purifier.guidance import guide

pytestmark = pytest.mark.unit

PLAIN, INVERSION = OneLook(entry="plain"), OneLook()
GUIDED = OneLook(entry="plain", guided=True)
LEVEL = 41  # train step of inversion_steps 2


def defend(look: OneLook, dtype: torch.dtype = torch.float32) -> DefendedRecogniser:
    pipeline = load_pipeline(FIXTURE)
    pipeline.to(dtype)
    settings = PurifySettings(inversion_steps=2, method="one_look", one_look=look)
    return DefendedRecogniser(pipeline, tiny_recogniser(3, (16, 24)).to(dtype), settings)


def clips(dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return (torch.rand(2, 3, 3, 16, 24, generator=generator) * 0.9 + 0.05).to(dtype)


def predicted_by_diffusers(defended: DefendedRecogniser, noisy: Tensor) -> Tensor:
    """x0 of the stock scheduler, from the network's noise at the level."""
    pipeline = defended.pipeline
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(50)
    noise = pipeline.predict_noise(noisy, LEVEL)
    return scheduler.step(noise, LEVEL, noisy).pred_original_sample


@contextmanager
def counted_calls(defended: DefendedRecogniser) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of what the network was given."""
    shapes: list[tuple[int, ...]] = []
    hook = defended.pipeline.unet.register_forward_pre_hook(
        lambda _, inputs: shapes.append(tuple(inputs[0].shape))
    )
    yield shapes
    hook.remove()


@torch.no_grad()
def test_a_plain_look_is_the_stock_scheduler_s_estimate_of_latents_without_noise() -> None:
    defended = defend(PLAIN)
    encoded = defended.pipeline.encode(clips())
    alpha = defended.pipeline.scheduler.alphas_cumprod[LEVEL]
    expected = predicted_by_diffusers(defended, alpha.sqrt() * encoded)
    found = defended.candidates(clips())
    assert [len(shown) for shown in found] == [1, 1]
    torch.testing.assert_close(
        torch.cat(found), defended.pipeline.decode(expected), rtol=0, atol=1e-5
    )


@torch.no_grad()
def test_entry_by_inversion_adds_the_noise_of_the_first_frame_to_all() -> None:
    defended = defend(INVERSION)
    pipeline = defended.pipeline
    encoded = pipeline.encode(clips())
    alphas = pipeline.scheduler.alphas_cumprod
    noise = pipeline.predict_noise(encoded[:, :, :1], LEVEL)  # the same for all frames
    clean = (encoded - (1 - alphas[0]).sqrt() * noise) / alphas[0].sqrt()
    noisy = alphas[LEVEL].sqrt() * clean + (1 - alphas[LEVEL]).sqrt() * noise
    expected = pipeline.decode(predicted_by_diffusers(defended, noisy))
    torch.testing.assert_close(torch.cat(defended.candidates(clips())), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_guided_look_guides_the_estimate_along_the_flow() -> None:
    defended = defend(GUIDED)
    pipeline = defended.pipeline
    encoded, flow = pipeline.encode(clips()), pipeline.estimate_flow(clips())
    alpha, lowest = (float(pipeline.scheduler.alphas_cumprod[t]) for t in (LEVEL, 0))
    noisy = alpha**0.5 * encoded
    noise = pipeline.predict_noise(noisy, LEVEL)
    variance = (1 - lowest) / (1 - alpha) * (1 - alpha / lowest)  # DDIM's, of this one step
    log_variance = float(torch.tensor(variance).log())
    guided = guide(noisy, noise, encoded, flow, alpha, log_variance, Guidance())
    expected = pipeline.decode((guided - (1 - alpha) ** 0.5 * noise) / alpha**0.5)
    found = torch.cat(defended.candidates(clips()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert not torch.allclose(found, torch.cat(defend(PLAIN).candidates(clips())), atol=1e-3)


@pytest.mark.parametrize(
    ("look", "seen"), [(PLAIN, [3]), (INVERSION, [1, 3]), (OneLook("inversion", True), [1, 3])]
)
def test_the_network_is_called_twice_at_most(look: OneLook, seen: list[int]) -> None:
    defended = defend(look)
    with counted_calls(defended) as shapes:
        verdict = defended.answer(clips()).verdicts[0]
    assert [frames for _, _, frames, _, _ in shapes] == seen
    assert verdict.of == len(verdict.votes) == 1
    assert verdict.suspicion is not None


@pytest.mark.parametrize("look", [PLAIN, INVERSION])
def test_gradients_are_those_of_finite_differences(look: OneLook) -> None:
    defended = defend(look, torch.float64)
    video = clips(torch.float64).requires_grad_()

    def loss(frames: Tensor) -> Tensor:
        return defended(frames)[:, 0].log_softmax(1)[:, 0].sum()

    (slope,) = torch.autograd.grad(loss(video), video)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = torch.randn(video.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            up, down = loss(video + 1e-7 * direction), loss(video - 1e-7 * direction)
        torch.testing.assert_close(
            (slope * direction).sum(), (up - down) / 2e-7, rtol=1e-4, atol=1e-9
        )


def test_the_same_answer_every_time() -> None:
    defended = defend(INVERSION)
    first, second = (defended.answer(clips()).verdicts for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.probabilities, other.probabilities)


@torch.no_grad()
def test_the_pipeline_purifies_in_one_look() -> None:
    defended = defend(INVERSION)
    out = defended.pipeline(clips(), inversion_steps=2, method="one_look", look=INVERSION)
    assert out.candidates.shape == (2, 1, 3, 3, 16, 24)
    torch.testing.assert_close(
        out.candidates[:, 0], torch.cat(defended.candidates(clips())), rtol=0, atol=1e-5
    )


def test_an_unknown_entry_is_named() -> None:
    with pytest.raises(ValueError, match=r"one_look.entry must be one of .*, got 'door'"):
        OneLook(entry="door")  # type: ignore[arg-type]
