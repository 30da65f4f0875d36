"""The purification pipeline on a tiny random-weight model in the text-to-video layout."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.parity import FIXTURE, load_pipeline
from videopure.purifier import METHODS, Guidance, VideoPurePipeline

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def pipeline() -> VideoPurePipeline:
    return load_pipeline(FIXTURE)


def clips(batch: int = 1, frames: int = 3, size: tuple[int, int] = (16, 24)) -> Tensor:
    """Random clips [B, T, 3, H, W] in 0..1, each different."""
    generator = torch.Generator().manual_seed(5)
    return torch.rand(batch, frames, 3, *size, generator=generator)


def seeds(*values: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(value) for value in values]


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_two_equals_two_batches_of_one(pipeline: VideoPurePipeline, method: str) -> None:
    video = clips(2)
    together = pipeline(video, inversion_steps=1, method=method, generator=seeds(1, 2))
    first = pipeline(video[:1], inversion_steps=1, method=method, generator=seeds(1))
    second = pipeline(video[1:], inversion_steps=1, method=method, generator=seeds(2))
    alone = torch.cat([first.latents, second.latents])
    torch.testing.assert_close(together.latents, alone, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("frames", "size"), [(2, (8, 8)), (5, (8, 40)), (3, (24, 16)), (4, (40, 72))]
)
def test_any_length_and_any_multiple_of_eight(
    pipeline: VideoPurePipeline, frames: int, size: tuple[int, int]
) -> None:
    out = pipeline(clips(1, frames, size), inversion_steps=1)
    assert out.candidates.shape == (1, 3, frames, 3, *size)
    assert out.latents.shape == (1, 3, 4, frames, size[0] // 8, size[1] // 8)
    assert out.timesteps == [21, 1, 0]
    assert torch.isfinite(out.candidates).all()
    assert out.candidates.min() >= 0
    assert out.candidates.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_close_to_full(
    pipeline: VideoPurePipeline, dtype: torch.dtype
) -> None:
    half = VideoPurePipeline.from_pretrained(FIXTURE / "model_seed0", dtype=dtype)
    half.set_progress_bar_config(disable=True)
    assert half.unet.dtype == dtype
    ours = half(clips(), inversion_steps=1).candidates
    full = pipeline(clips(), inversion_steps=1).candidates
    assert ours.dtype == torch.float32
    # Random weights amplify rounding; bfloat16 keeps only 8 bits.
    assert (ours - full).abs().mean().item() < (0.015 if dtype == torch.float16 else 0.05)


def test_saved_folder_serves_without_a_text_encoder(
    pipeline: VideoPurePipeline, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path)
    assert not (tmp_path / "text_encoder").exists()
    assert not (tmp_path / "tokenizer").exists()
    assert not list(tmp_path.rglob("*.bin"))
    again = load_pipeline_from(tmp_path)
    expected = pipeline(clips(), inversion_steps=1).candidates
    torch.testing.assert_close(again(clips(), inversion_steps=1).candidates, expected)


def load_pipeline_from(folder: Path) -> VideoPurePipeline:
    loaded = VideoPurePipeline.from_pretrained(folder, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_purification_is_deterministic_and_leaves_the_components_alone(
    pipeline: VideoPurePipeline,
) -> None:
    scheduler = dict(pipeline.scheduler.__dict__)
    first = pipeline(clips(), inversion_steps=1)
    pipeline(clips(), inversion_steps=3, num_inference_steps=20)
    second = pipeline(clips(), inversion_steps=1)
    assert torch.equal(first.latents, second.latents)
    assert pipeline.scheduler.__dict__ == scheduler


@pytest.mark.parametrize("method", ["ddim", "ddpm"])
def test_drawn_noise_follows_the_seed(pipeline: VideoPurePipeline, method: str) -> None:
    runs = [
        pipeline(clips(), inversion_steps=0, method=method, generator=seeds(seed)).latents
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_clips_may_be_a_list_or_an_array(pipeline: VideoPurePipeline) -> None:
    video = clips(2)
    expected = pipeline(video, inversion_steps=0, output_type="latent").latents
    for given in (list(video), video.numpy(), [clip.numpy() for clip in video]):
        out = pipeline(given, inversion_steps=0, output_type="latent")
        assert out.candidates is None
        assert torch.equal(out.latents, expected)


def test_outputs_as_arrays_and_tuples(pipeline: VideoPurePipeline) -> None:
    out = pipeline(clips(), inversion_steps=0, output_type="np")
    assert isinstance(out.candidates, np.ndarray)
    candidates, latents, timesteps = pipeline(clips(), inversion_steps=0, return_dict=False)
    assert candidates.shape == (1, 2, 3, 3, 16, 24)
    assert torch.equal(latents, out.latents)
    assert timesteps == out.timesteps


def test_flow_may_be_given_or_estimated(pipeline: VideoPurePipeline) -> None:
    video = clips()
    flow = torch.zeros(1, 2, 2, 16, 24)
    given = pipeline(video, flow=flow, inversion_steps=1).latents
    estimated = pipeline(video, flow=lambda v: torch.zeros_like(flow), inversion_steps=1).latents
    moved = pipeline(video, flow=flow + 8, inversion_steps=1).latents
    assert torch.equal(given, estimated)
    assert not torch.equal(given, moved)


def test_callback_sees_every_step_and_may_change_the_latents(pipeline: VideoPurePipeline) -> None:
    seen: list[tuple[int, int]] = []

    def record(pipe: object, index: int, timestep: int, tensors: dict[str, Tensor]) -> dict:
        seen.append((index, timestep))
        return {"latents": tensors["latents"] * 0}

    out = pipeline(clips(), inversion_steps=1, callback_on_step_end=record)
    assert seen == [(0, 1), (1, 21), (0, 21), (1, 1)]
    plain = pipeline(clips(), inversion_steps=1)
    assert not torch.equal(out.latents, plain.latents)


def test_lifecycle_keeps_gradients(pipeline: VideoPurePipeline) -> None:
    video = clips().requires_grad_()
    schedule = pipeline.schedule(0)
    encoded = pipeline.encode(video)
    noisy = pipeline.invert(encoded, schedule)[-1]
    flow = pipeline.estimate_flow(video)
    for step in pipeline.denoise(noisy, encoded, flow, schedule, Guidance()):
        decoded = pipeline.decode(step.candidate)
        gradient = torch.autograd.grad(decoded.sum(), video, retain_graph=True)
        assert gradient[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": torch.rand(1, 3, 3, 16, 20)}, r"multiples of 8, got 16x20"),
        ({"video": torch.rand(1, 1, 3, 16, 16)}, r"at least 1 clip of 2 frames, got shape \[1, 1"),
        ({"video": torch.rand(3, 3, 16, 16)}, r"shape \[B, T, 3, H, W\], got \[3, 3, 16, 16\]"),
        ({"video": torch.full((1, 2, 3, 8, 8), 255.0)}, r"in 0\.\.1, got values in 255\.0"),
        ({"video": torch.full((1, 2, 3, 8, 8), torch.nan)}, r"in 0\.\.1, got values in nan"),
        ({"video": torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8)}, r"floating point.*uint8"),
        ({"video": []}, r"at least one clip, got an empty list"),
        ({"video": [torch.rand(2, 3, 8, 8), torch.rand(3, 3, 8, 8)]}, r"must have one shape"),
        ({"method": "magic"}, r"method must be one of videopure.*got 'magic'"),
        ({"output_type": "pil"}, r"output_type must be one of.*got 'pil'"),
        ({"inversion_steps": 50}, r"inversion_steps must be in 0\.\.49.*got 50"),
        ({"inversion_steps": -1}, r"inversion_steps must be in 0\.\.49.*got -1"),
        ({"num_inference_steps": 0}, r"num_inference_steps must be in 1\.\.1000, got 0"),
        ({"flow": torch.zeros(1, 3, 2, 16, 24)}, r"flow must have shape \[1, 2, 2, 16, 24\]"),
        ({"guidance_reference": (1, 2)}, r"reference must be four positive sizes"),
    ],
)
def test_bad_arguments_are_named(
    pipeline: VideoPurePipeline, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline(**{"video": clips(), **change})


def test_a_pipeline_without_any_prompt_says_what_is_missing(pipeline: VideoPurePipeline) -> None:
    with pytest.raises(ValueError, match="prompt_embedding is None"):
        VideoPurePipeline(vae=pipeline.vae, unet=pipeline.unet, scheduler=pipeline.scheduler)


def test_the_defaults_are_the_papers() -> None:
    """As published with arXiv 2501.14999: t of 5 in a schedule of 50 steps."""
    told = inspect.signature(VideoPurePipeline.__call__).parameters
    chosen = [told[name].default for name in ("inversion_steps", "num_inference_steps", "method")]
    assert chosen == [5, 50, "videopure"]
    assert VideoPurePipeline.schedule.__defaults__ == (5, 50)
