"""Compares the purifier with recorded tensors of the published procedure.

    python tests/parity.py [FOLDER]

prints a table of the largest difference for every recorded tensor. FOLDER holds a small pipeline
in the text-to-video layout, `units.safetensors` and any number of `case_*.safetensors` with their
JSON; by default the subset kept for the tests.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from torch import Tensor

from videopure.purifier.guidance import Guidance, guide, resize_flow, warp
from videopure.purifier.pipeline import VideoPurePipeline
from videopure.purifier.sampling import DenoisingStep, add_noise, ddim, ddpm
from videopure.purifier.schedule import NoiseLevel, Schedule, predict_x0

FIXTURE = Path(__file__).parent / "fixtures" / "golden"

# Largest differences allowed. The recorded votes hold a sign() of nearly equal numbers, so a few
# entries in a thousand may flip; `flips` is the share that may, by at most twice the consistency
# gain (0.61 at 64x64).
EXACT, STEP, GUIDED, ENCODED, VOTES, PIXELS = 0.0, 1e-5, 5e-5, 1e-4, 5e-4, 5e-4
FLIPS, FLIP_SIZE = 1e-3, 1.3


@dataclass(frozen=True)
class Comparison:
    """One recorded tensor against ours."""

    case: str
    name: str
    difference: float  # the largest but for the share of entries that may flip
    tolerance: float
    flipped: float  # share of entries beyond the tolerance
    largest: float  # the largest of all

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance, but for a few flipped signs."""
        if self.tolerance < VOTES:
            return self.largest <= self.tolerance
        return self.flipped <= FLIPS and self.largest <= FLIP_SIZE


def compare(case: str, name: str, recorded: Tensor, ours: Tensor, tolerance: float) -> Comparison:
    """Compare two tensors of one shape, in float64."""
    if recorded.shape != ours.shape:
        raise ValueError(f"{case} {name}: recorded {recorded.shape}, ours {ours.shape}")
    difference = (recorded.double() - ours.double()).abs().flatten()
    beyond = difference > tolerance
    inside = difference[~beyond]
    return Comparison(
        case,
        name,
        float(inside.max()) if len(inside) else float("inf"),
        tolerance,
        float(beyond.double().mean()),
        float(difference.max()),
    )


class GoldenCase:
    """One recorded clip and what the published procedure made of it."""

    def __init__(self, file: Path, pipeline: VideoPurePipeline) -> None:
        self.name = file.stem
        self.meta = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        self.tensors = load_file(file)
        self.pipeline = pipeline
        # [B, 3, T, H, W] -> [B, T, 3, H, W]
        self.video = self.tensors["input/clip_u8"].transpose(1, 2).float() / 255
        self.flow = self.tensors["flow/full_x8"].float() / 8

    def schedule(self, inversion_steps: int) -> Schedule:
        """The recorded schedule: 50 steps."""
        return self.pipeline.schedule(inversion_steps, self.meta["num_inference_steps"])

    @cached_property
    def encoded(self) -> Tensor:
        """Our latents of the clip."""
        return self.pipeline.encode(self.video)

    def comparisons(self) -> Iterator[Comparison]:
        """All recorded tensors that this case holds."""
        yield from self._inputs()
        for prefix, steps in (("t5", 5), ("t2", 2), ("t5_zeroflow", 5)):
            yield from self._videopure(prefix, steps)
        yield from self._ddim_inversion()
        yield from self._ddim()
        yield from self._ddpm()

    def _check(self, name: str, ours: Tensor, tolerance: float) -> Iterator[Comparison]:
        """Compare if the tensor is recorded; a fixture may hold a subset."""
        if name in self.tensors:
            yield compare(self.name, name, self.tensors[name], ours, tolerance)

    def _pixels(self, name: str, latents: Tensor) -> Iterator[Comparison]:
        """Compare decoded candidates [N, C, T, h, w] with recorded uint16 [N, 3, frames, H, W]."""
        if name in self.tensors:
            video = self.pipeline.decode(latents)[:, self.meta["frame_subset"]]
            recorded = self.tensors[name].to(torch.int32).float() / 65535
            yield compare(self.name, name, recorded, video.transpose(1, 2), PIXELS)

    def _inputs(self) -> Iterator[Comparison]:
        prompt = self.pipeline.prompt_embedding.embedding
        yield from self._check("text/prompt_embeds", prompt, STEP)
        latent_flow = self.pipeline.estimate_flow(self.video, self.flow)
        yield from self._check("flow/latent", latent_flow, STEP)
        yield from self._check("enc/latents", self.encoded, ENCODED)

    def _videopure(self, prefix: str, inversion_steps: int) -> Iterator[Comparison]:
        if f"{prefix}/voted_latents" not in self.tensors:
            return
        schedule = self.schedule(inversion_steps)
        flow = torch.zeros_like(self.flow) if "zeroflow" in prefix else self.flow
        latent_flow = self.pipeline.estimate_flow(self.video, flow)
        inverted = self.pipeline.invert(self.encoded, schedule)
        guidance = Guidance(reference=None)
        steps = list(
            self.pipeline.denoise(inverted[-1], self.encoded, latent_flow, schedule, guidance)
        )
        up, down = torch.tensor(schedule.timesteps_up), torch.tensor(schedule.timesteps_down)
        yield from self._check(f"{prefix}/timesteps_inversion", up, EXACT)
        yield from self._check(f"{prefix}/timesteps_denoise", down, EXACT)
        yield from self._check(f"{prefix}/inverted", torch.cat(inverted), ENCODED)
        yield from self._noise(prefix, schedule, inverted)
        yield from self._steps(prefix, steps, latent_flow)
        votes = torch.cat([step.candidate for step in steps])
        yield from self._check(f"{prefix}/voted_latents", votes, VOTES)
        yield from self._pixels(f"{prefix}/video_u16", votes)

    def _noise(
        self, prefix: str, schedule: Schedule, inverted: list[Tensor]
    ) -> Iterator[Comparison]:
        name = f"{prefix}/noise_inversion_frame0"
        if name in self.tensors:
            noise = [
                self.pipeline.predict_noise(latents, timestep)[0, :, 0]
                for latents, timestep in zip(inverted, schedule.timesteps_up, strict=False)
            ]
            yield from self._check(name, torch.stack(noise), ENCODED)

    def _steps(self, prefix: str, steps: list[DenoisingStep], flow: Tensor) -> Iterator[Comparison]:
        # The last entry of each record repeats the last step's level and noise.
        levels = [step.level for step in steps[:-1]]
        levels.append(levels[-1])
        log_variance = torch.tensor([level.log_variance for level in levels])
        alphas = torch.tensor([level.alpha for level in levels])
        yield from self._check(f"{prefix}/log_variance", log_variance, STEP)
        yield from self._check(f"{prefix}/alpha_cumprod", alphas, STEP)
        noise = torch.cat([step.noise for step in steps[:-1]])
        yield from self._check(f"{prefix}/noise_denoise", noise, ENCODED)
        latents = torch.cat([step.latents for step in steps])
        yield from self._check(f"{prefix}/latents_in", latents, ENCODED)
        before = [
            predict_x0(s.latents, s.noise, v.alpha) for s, v in zip(steps, levels, strict=True)
        ]
        yield from self._check(f"{prefix}/x0_before", torch.cat(before), VOTES)
        guided = [
            self._guided(step, level, flow) for step, level in zip(steps, levels, strict=True)
        ]
        yield from self._check(f"{prefix}/latents_opt", torch.cat(guided), VOTES)
        after = [
            predict_x0(g, s.noise, v.alpha) for g, s, v in zip(guided, steps, levels, strict=True)
        ]
        yield from self._check(f"{prefix}/x0_after", torch.cat(after), VOTES)

    def _guided(self, step: DenoisingStep, level: NoiseLevel, flow: Tensor) -> Tensor:
        return guide(
            step.latents,
            step.noise,
            self.encoded,
            flow,
            level.alpha,
            level.log_variance,
            Guidance(reference=None),
        )

    def _ddim_inversion(self) -> Iterator[Comparison]:
        schedule = self.schedule(5)
        inverted = self.pipeline.invert(self.encoded, schedule, temporal=False)
        timesteps = torch.tensor(schedule.timesteps_up + schedule.timesteps_down)
        final = ddim(inverted[-1], self.pipeline.predict_noise, schedule)
        yield from self._check("ddim_inversion/timesteps", timesteps, EXACT)
        yield from self._check("ddim_inversion/inverted", torch.cat(inverted), ENCODED)
        yield from self._check("ddim_inversion/final_latents", final, VOTES)
        yield from self._pixels("ddim_inversion/video_u16", final)

    def _ddim(self) -> Iterator[Comparison]:
        if "ddim/noise_x32" not in self.tensors:
            return
        schedule = self.schedule(5)
        noise = self.tensors["ddim/noise_x32"].float() / 32
        noisy = add_noise(self.encoded, schedule, noise)
        final = ddim(noisy, self.pipeline.predict_noise, schedule)
        yield from self._check("ddim/noisy_latents", noisy, ENCODED)
        yield from self._check("ddim/timesteps", torch.tensor(schedule.timesteps_down), EXACT)
        yield from self._check("ddim/final_latents", final, VOTES)
        yield from self._pixels("ddim/video_u16", final)

    def _ddpm(self) -> Iterator[Comparison]:
        if "ddpm/final_latents" not in self.tensors:
            return
        schedule = self.schedule(5)
        initial, steps = self._ddpm_noise()
        noisy = add_noise(self.encoded, schedule, initial)
        fresh = iter(steps)
        final = ddpm(noisy, self.pipeline.predict_noise, schedule, lambda: next(fresh))
        timesteps = torch.arange(schedule.timesteps_down[0], 0, -1)
        yield from self._check("ddpm/noisy_latents", noisy, ENCODED)
        yield from self._check("ddpm/timesteps", timesteps, EXACT)
        yield from self._check("ddpm/final_latents", final, VOTES)
        yield from self._pixels("ddpm/video_u16", final)

    def _ddpm_noise(self) -> tuple[Tensor, list[Tensor]]:
        """The recorded noise, drawn again by its recipe and checked by its digest."""
        _, channels, frames, height, width = self.encoded.shape
        generator = torch.Generator().manual_seed(self.meta["noise_seed"] + 1)

        def draw(*shape: int) -> Tensor:
            noise = torch.randn(shape, generator=generator)
            return (noise * 32).round().clamp(-127, 127).to(torch.int8)

        initial = draw(1, channels, frames, height, width)
        steps = torch.stack([draw(frames, channels, height, width) for _ in range(101)])
        digest = hashlib.sha256(steps.numpy().tobytes()).hexdigest()
        if digest != self.meta["ddpm_noise"]["sha256_step_int8"]:
            raise ValueError(f"{self.name}: the recorded noise could not be drawn again")
        per_step = steps.float().div(32).transpose(1, 2)  # [S, C, T, h, w]
        return initial.float() / 32, [noise[None] for noise in per_step]


def unit_comparisons(folder: Path) -> Iterator[Comparison]:
    """Warp, flow resizing, guided update and scheduler steps."""
    tensors = load_file(folder / "units.safetensors")
    case = "units"
    warped = warp(tensors["warp/x"], tensors["warp/flow"])
    yield compare(case, "warp/out", tensors["warp/out"], warped, STEP)
    recorded = tensors["resize_flow/out"]
    resized = resize_flow(tensors["resize_flow/in"][None], (recorded.shape[-2], recorded.shape[-1]))
    yield compare(case, "resize_flow/out", recorded, resized[0], STEP)
    variants = ((1, 800, 5), (1, 0, 5), (1, 800, 0), (3, 80, 5))
    latents = tensors["guide/latents"].transpose(0, 1)[None]  # [T, C, h, w] -> [1, C, T, h, w]
    noise = tensors["guide/noise"].transpose(0, 1)[None]
    for index, (iterations, fidelity, consistency) in enumerate(variants):
        weights = Guidance(fidelity, consistency, iterations=iterations, reference=None)
        encoded, flow = tensors["guide/encoded"], tensors["guide/flow"]
        guided = guide(latents, noise, encoded, flow, 0.9, -4.0, weights)
        ours = guided[0].transpose(0, 1)  # [T, C, h, w]
        yield compare(case, f"guide{index}/out", tensors[f"guide{index}/out"], ours, GUIDED)
    yield from _scheduler_comparisons(case, tensors, folder)


def _scheduler_comparisons(
    case: str, tensors: dict[str, Tensor], folder: Path
) -> Iterator[Comparison]:
    schedule = Schedule(
        DDIMScheduler.from_pretrained(folder / "model_seed0" / "scheduler"), None, 49, 50
    )
    timesteps = tensors["sched/timesteps"].tolist()
    sample, noise = tensors["sched/sample"], tensors["sched/noise"]
    up = torch.stack([schedule.step_up(noise, t, sample) for t in timesteps])
    down = torch.stack([schedule.step_down(noise, t, sample) for t in timesteps])
    levels = {level.timestep: level.log_variance for level in schedule.levels()}
    log_variance = torch.tensor([levels[t] for t in timesteps])
    alphas = torch.tensor([schedule.alpha(t) for t in range(1000)])
    yield compare(case, "sched/inversion", tensors["sched/inversion"], up, STEP)
    yield compare(case, "sched/step", tensors["sched/step"], down, STEP)
    yield compare(case, "sched/log_variance", tensors["sched/log_variance"], log_variance, STEP)
    yield compare(case, "sched/alphas_cumprod", tensors["sched/alphas_cumprod"], alphas, STEP)


def load_pipeline(folder: Path) -> VideoPurePipeline:
    """The recorded pipeline in float32."""
    pipeline = VideoPurePipeline.from_pretrained(folder / "model_seed0", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def main(folder: Path = FIXTURE) -> int:
    """Print the table; 1 if a tensor is out of tolerance."""
    torch.set_grad_enabled(False)
    pipeline = load_pipeline(folder)
    rows = list(unit_comparisons(folder))
    for file in sorted(folder.glob("case_*.safetensors")):
        rows += GoldenCase(file, pipeline).comparisons()
    print("| case | tensor | largest difference | tolerance | beyond it |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.case} | {row.name} | {row.difference:.1e} | {row.tolerance:.0e} | "
            f"{100 * row.flipped:.3f} % {'' if row.passed else '**FAILED**'}|"
        )
    return int(not all(row.passed for row in rows))


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
