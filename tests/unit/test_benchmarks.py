"""What the benchmarks compare is the same thing, and the work counted in them is less."""

from __future__ import annotations

import pytest
import torch

from benchmarks.published import PublishedSchedule
from tests.parity import FIXTURE, FLIP_SIZE, GoldenCase, compare, load_pipeline
from tests.support.models import tiny_recogniser
from videopure.purifier import Guidance

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def case() -> GoldenCase:
    return GoldenCase(FIXTURE / "case_clip9018.safetensors", load_pipeline(FIXTURE))


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
