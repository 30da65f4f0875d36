"""What the benchmarks compare is the same thing, and the work counted in them is less."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmarks.counting import count_flops
from benchmarks.published import PublishedSchedule
from benchmarks.scaling import exponent, purify_random
from benchmarks.schedule import agreement
from benchmarks.served import percentile
from benchmarks.setups import Setup, text_to_video
from tests.parity import FIXTURE, FLIP_SIZE, GoldenCase, compare, load_pipeline
from tests.support.models import tiny_recogniser
from videopure.purifier import Guidance

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def case() -> GoldenCase:
    return GoldenCase(FIXTURE / "case_clip9018.safetensors", load_pipeline(FIXTURE))


@pytest.mark.extended
@pytest.mark.parametrize(("prefix", "inversion_steps"), [("t5", 5), ("t2", 2)])
def test_the_published_schedule_gives_the_recorded_votes(
    case: GoldenCase, prefix: str, inversion_steps: int
) -> None:
    pipeline, (frames, _, height, width) = case.pipeline, case.video[0].shape
    published = PublishedSchedule(
        pipeline.vae,
        pipeline.unet,
        pipeline.scheduler,
        pipeline.prompt_embedding.embedding,
        pipeline.vae_scale_factor,
        tiny_recogniser(frames, (height, width)),
        inversion_steps,
        Guidance(reference=None),
    )
    answer = published.answer(case.video, case.flow)
    recorded = case.tensors[f"{prefix}/voted_latents"]
    row = compare(case.name, prefix, recorded, answer.latents, 5e-4)
    assert row.passed, row
    assert row.largest < FLIP_SIZE
    assert len(answer.labels) == inversion_steps + 2
    assert set(answer.timing_ms) == {"flow", "encode", "invert", "denoise", "vote"}
    torch.testing.assert_close(
        published.decode(answer.latents[0]),
        pipeline.decode(answer.latents[:1])[0],
        rtol=0,
        atol=1e-5,
    )


@pytest.fixture(scope="module")
def toy() -> Setup:
    return text_to_video(frames=4, size=32, clips=2, width=16)


@pytest.mark.extended
def test_both_ways_give_the_same_votes(toy: Setup) -> None:
    found = agreement(toy)
    assert found["clips"] == found["same_labels"] == found["same_votes"] == 2
    # A few signs of nearly equal numbers flip.
    assert found["latents_beyond_5e-4"] <= 1e-3


@pytest.mark.extended
def test_exact_mode_counts_three_quarters_of_the_published_work_at_most(toy: Setup) -> None:
    clip = toy.clips[:1]
    published = count_flops(lambda: toy.stock.answer(clip))
    assert count_flops(lambda: toy.same.answer(clip)) == published
    exact = count_flops(lambda: toy.defended.answer(clip))
    assert 0 < exact <= 0.75 * published
    assert count_flops(lambda: toy.with_settings(speed="fast").answer(clip)) <= 0.3 * published


@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "sizes"), [("frames", (4, 8)), ("batch", (1, 3)), ("steps", (1, 2, 4))]
)
def test_work_grows_no_faster_than_what_is_asked(
    toy: Setup, name: str, sizes: tuple[int, ...]
) -> None:
    base = {"frames": 4, "side": 16, "batch": 1, "steps": 1}
    work = [count_flops(partial(purify_random, toy, **{**base, name: size})) for size in sizes]
    assert 0 < exponent([float(size) for size in sizes], work) <= 1.1


def test_the_fitted_exponent_is_that_of_a_power() -> None:
    assert exponent([1.0, 2.0, 8.0], [3.0, 12.0, 192.0]) == pytest.approx(2.0)


def test_percentiles_are_measured_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99)] == [50.0, 95.0, 99.0]
    assert percentile([7.0], 0.99) == 7.0
