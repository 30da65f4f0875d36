"""The families of transformers on a GPU; `pytest -m gpu` runs these where there is one."""

from collections.abc import Callable

import pytest
import torch

from tests.support.models import tiny_recogniser
from tests.support.transformer_pipelines import PIPELINES, SIZE, random_clips
from videopure.purifier import DefendedRecogniser, PurifySettings, VideoPurePipeline

pytestmark = [pytest.mark.unit, pytest.mark.gpu]
SERVED = {
    "exact": PurifySettings(inversion_steps=2),
    "fast": PurifySettings(inversion_steps=2, speed="fast"),
    "one look": PurifySettings(method="one_look"),
}


@pytest.fixture(params=list(PIPELINES))
def make(request: pytest.FixtureRequest) -> Callable[[], VideoPurePipeline]:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return PIPELINES[request.param]


def defended(pipeline: VideoPurePipeline, settings: PurifySettings) -> DefendedRecogniser:
    device = pipeline.transformer.device
    return DefendedRecogniser(pipeline, tiny_recogniser(5, SIZE).to(device), settings)


def test_bfloat16_is_near_float32_on_the_cpu(make: Callable[[], VideoPurePipeline]) -> None:
    options = {"inversion_steps": 2, "output_type": "latent"}
    expected = make()(random_clips(), **options).latents
    half = make().to("cuda", torch.bfloat16)
    found = half(random_clips(), **options).latents.cpu()
    assert found.isfinite().all()
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()


@pytest.mark.parametrize("how", list(SERVED))
def test_answers_in_bfloat16_are_near_those_of_the_cpu(
    make: Callable[[], VideoPurePipeline], how: str
) -> None:
    clips = random_clips(2)
    cpu = defended(make(), SERVED[how]).answer(clips).verdicts
    gpu = defended(make().to("cuda", torch.bfloat16), SERVED[how]).answer(clips).verdicts
    for expected, found in zip(cpu, gpu, strict=True):
        assert found.of == expected.of
        torch.testing.assert_close(
            found.probabilities.cpu(), expected.probabilities, rtol=0, atol=0.02
        )


def test_gradients_are_those_of_the_cpu(make: Callable[[], VideoPurePipeline]) -> None:
    def gradient(pipeline: VideoPurePipeline) -> torch.Tensor:
        pipeline.gradient_checkpointing = True
        clips = random_clips().to(pipeline.transformer.device).requires_grad_()
        votes = defended(pipeline, SERVED["one look"])(clips)
        (grad,) = torch.autograd.grad(votes.logsumexp(-1).sum(), clips)
        return grad.cpu()

    expected, found = gradient(make()), gradient(make().to("cuda"))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05 * float(expected.abs().max()))


def test_parts_may_wait_on_the_cpu(make: Callable[[], VideoPurePipeline]) -> None:
    expected = make().to("cuda")(random_clips(), inversion_steps=1).candidates
    offloaded = make()
    offloaded.enable_model_cpu_offload()
    found = offloaded(random_clips(), inversion_steps=1).candidates
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert {p.device.type for p in offloaded.transformer.parameters()} == {"cpu"}


# The last one: a capture that fails may leave CUDA unwell.
@torch.no_grad()
def test_wan_replays_as_a_graph() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    pipeline = PIPELINES["wan"]().to("cuda")
    latents = pipeline.encode(random_clips().to("cuda"))
    plain = [pipeline.predict_noise(latents, t) for t in (1, 101)]
    pipeline.cuda_graphs = True
    replayed = [pipeline.predict_noise(latents, t) for t in (1, 101)]
    torch.testing.assert_close(replayed, plain)
    assert not torch.equal(*replayed)
