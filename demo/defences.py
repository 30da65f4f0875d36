"""VideoPure side by side with what it is compared to, and with each of its ideas taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from videopure.evaluation.filters import (
    gaussian_blur,
    h264,
    jpeg,
    temporal_median,
    temporal_shuffle,
)
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.guidance import Guidance
from videopure.purifier.pipeline import Method
from videopure.purifier.schedule import predict_x0
from videopure.purifier.voting import count_votes, majority

__all__ = ["ablations", "ddpm", "diffusion", "filters"]

Labelled = Iterator[tuple[str, Tensor]]


def filters(defended: DefendedRecogniser, frames: Tensor) -> Labelled:
    """Names and labels [B] of no defence and of simple filters, for clips [B, T, 3, H, W]."""
    pipeline = defended.pipeline
    cleaned: dict[str, Callable[[Tensor], Tensor]] = {
        "none": lambda clips: clips,
        "codec round trip": lambda clips: pipeline.decode(pipeline.encode(clips)),
        "JPEG quality 20": jpeg,
        "H.264 crf 35": h264,
        "Gaussian blur, sigma 2": gaussian_blur,
        "temporal median of 3": temporal_median,
        "temporal shuffle within 2": temporal_shuffle,
    }
    for name, clean_up in cleaned.items():
        yield name, defended.recogniser.logits(clean_up(frames)).argmax(1)


def diffusion(defended: DefendedRecogniser, frames: Tensor) -> Labelled:
    """The other ways to purify with the same UNet.

    VideoPure calls it 2 (t + 1) times for inversion steps t, and so does plain inversion; noising
    calls it t + 1 times, and as often as VideoPure for 2 t + 1.
    """
    steps = defended.settings.inversion_steps
    yield f"plain DDIM inversion, t={steps}", _labels(defended, frames, "ddim_inversion", steps)
    for t in (steps, 2 * steps + 1):
        yield f"DDIM noise and denoise, t={t}", _labels(defended, frames, "ddim", t)


def ddpm(defended: DefendedRecogniser, frames: Tensor) -> Labelled:
    """DDPM (DiffPure) at the same noise levels as DDIM; it calls the UNet 20 t + 1 times."""
    steps = defended.settings.inversion_steps
    for t in (steps, 2 * steps + 1):
        yield f"DDPM, t={t}", _labels(defended, frames, "ddpm", t)


def _labels(defended: DefendedRecogniser, frames: Tensor, method: Method, steps: int) -> Tensor:
    seeds = list(range(len(frames)))
    output = defended.answer(frames, method=method, inversion_steps=steps, seeds=seeds)
    return torch.tensor([verdict.label_id for verdict in output.verdicts])


def ablations(defended: DefendedRecogniser, frames: Tensor) -> Labelled:
    """VideoPure with one idea taken away at a time: names and labels [B]."""
    guided, plain = _candidate_labels(defended, frames, temporal=True)
    yield "VideoPure without guidance", _vote(defended, plain)
    yield "VideoPure without vote, first candidate", guided[:, 0]
    yield "VideoPure without vote, last candidate", guided[:, -1]
    guided, _ = _candidate_labels(defended, frames, temporal=False)
    yield "VideoPure with all-frame inversion", _vote(defended, guided)


def _candidate_labels(
    defended: DefendedRecogniser, frames: Tensor, *, temporal: bool
) -> tuple[Tensor, Tensor]:
    """Labels of all candidates [B, K + 1], guided and unguided."""
    settings, pipeline = defended.settings, defended.pipeline
    schedule = pipeline.schedule(settings.inversion_steps, settings.num_inference_steps)
    guidance = Guidance(reference=settings.guidance_reference)
    encoded, flow = pipeline.encode(frames), pipeline.estimate_flow(frames)
    noisy = pipeline.invert(encoded, schedule, temporal=temporal)[-1]
    guided: list[Tensor] = []
    plain: list[Tensor] = []
    for step in pipeline.denoise(noisy, encoded, flow, schedule, guidance):
        final = step.level.timestep == 0
        unguided = step.latents if final else predict_x0(step.latents, step.noise, step.level.alpha)
        for labels, latents in ((guided, step.candidate), (plain, unguided)):
            labels.append(defended.recogniser.logits(pipeline.decode(latents)).argmax(1))
    return torch.stack(guided, dim=1), torch.stack(plain, dim=1)


def _vote(defended: DefendedRecogniser, labels: Tensor) -> Tensor:
    return majority(count_votes(labels, len(defended.recogniser.labels)))
