"""Training of a compact video diffusion model on unlabelled clips, as a purifier needs it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from accelerate import PartialState
from diffusers.models.attention_processor import AttnProcessor
from torch import Generator, Tensor, nn

from videopure.purifier import VideoPurePipeline
from videopure.training.ahead import Ahead
from videopure.training.loop import Question, StageLog, step_generator, train_steps
from videopure.training.noise import NoiseDraw, draw_noise, latent_noise
from videopure.training.precision import Precision, computing_in, half_dtype
from videopure.training.processes import average
from videopure.training.running_mean import RunningMean

__all__ = ["TrainedUNet", "UNetRecipe", "UNetTrainer", "denoising_psnr", "train_unet"]

_CLIPS_AT_ONCE = 8  # in validation


@dataclass(frozen=True, kw_only=True)
class UNetRecipe:
    """How the UNet is trained.

    Args:
        seed: of the noise and of the order of clips.
        steps, batch, learning_rate: as usual; `batch` counts the clips of all processes.
        warm_up: steps over which the learning rate rises; then it falls along a cosine.
        max_timestep: it learns only the noise levels that purification visits, 0..max_timestep.
        white_share: share of the clips that get white noise alone; see `draw_noise`.
        ema_decay: decay of the running mean of the weights; the mean is kept.
        validate_every: steps from one validation to the next.
    """

    seed: int = 0
    steps: int = 3600
    batch: int = 4
    learning_rate: float = 1e-3
    warm_up: int = 150
    max_timestep: int = 120
    white_share: float = 0.4
    ema_decay: float = 0.998
    validate_every: int = 300

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.max_timestep < 1000:
            raise ValueError(f"max_timestep must be in 1..999, got {self.max_timestep}")

    def rate(self, step: int) -> float:
        """The learning rate at a step: a rise, then a cosine to a fiftieth."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        share = min(1.0, (step - self.warm_up) / max(1, self.steps - self.warm_up))
        return self.learning_rate * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * share)))


class Clips(Protocol):
    """Clips to train on."""

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Any]:
        """Clips drawn at random, [B, T, 3, H, W] in 0..1, and whatever else is known about them."""


class _Batch(NamedTuple):
    clips: Tensor  # [B, T, 3, H, W] in 0..1
    noise: list[NoiseDraw]
    timesteps: Tensor  # [B]


@dataclass(frozen=True, eq=False)
class TrainedUNet:
    """The result of training.

    Args:
        log: log of all steps; see `StageLog`.
        validation: by step, the loss on the validation clips of the weights that are kept.
        waiting: share of this run's time that was spent waiting for clips, in 0..1.
        precision: the precision it computed in.
    """

    log: StageLog
    validation: list[dict[str, float]]
    waiting: float
    precision: str


class UNetTrainer:
    """Takes one step at a time; a checkpoint holds its `parts`.

    Args:
        pipeline: its UNet is trained, in place, in float32.
        clips: clips to train on.
        validation: clips [N, T, 3, H, W] in 0..1 that are not trained on; may be empty.
        recipe: how to train.
        state: this process among several; each takes its share of a batch, and gradients are
            averaged.
        precision: see `half_dtype`.
        compiled: compile the UNet, which needs a C++ compiler and minutes to start.
        threads: threads that make batches ahead.
    """

    def __init__(
        self,
        pipeline: VideoPurePipeline,
        clips: Clips,
        validation: Tensor,
        recipe: UNetRecipe,
        state: PartialState,
        precision: Precision = "auto",
        *,
        compiled: bool = False,
        threads: int = 1,
    ) -> None:
        self.pipeline, self.recipe, self.state = pipeline, recipe, state
        self.half = half_dtype(precision, state.device)
        self._clips = clips
        for part in (pipeline.vae, pipeline.prompt_embedding):
            part.to(state.device).requires_grad_(False)
        self.unet: Any = pipeline.unet.to(state.device).train()
        self.unet.set_attn_processor(AttnProcessor())  # faster over few frames
        for module in self.unet.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # the noise is new each time, so there is little to regularise
        self._predict = torch.compile(self.unet) if compiled else self.unet
        self._optimizer = torch.optim.AdamW(
            self.unet.parameters(), lr=recipe.learning_rate, weight_decay=0.01
        )
        self.mean = RunningMean(self.unet, recipe.ema_decay)
        self._alphas = pipeline.scheduler.alphas_cumprod
        self.validation: list[dict[str, float]] = []
        self._checked = self._noised(validation, step_generator(recipe.seed, -1))
        self.ahead = Ahead(self._draw, recipe.steps, threads)

    @property
    def parts(self) -> dict[str, Any]:
        """Everything that changes during training."""
        return {
            "unet": self.unet,
            "optimizer": self._optimizer,
            "mean": self.mean,
            "validation": _Kept(self.validation),
        }

    def step(self, index: int) -> dict[str, float]:
        """One step on fresh clips; and validation when it is due."""
        drawn = self.ahead.take(index)
        noisy, noise = self._add_noise(drawn)
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.rate(index)
        with computing_in(self.half, self.state.device):
            predicted = self._call(self._predict, noisy, drawn.timesteps)
        loss = (predicted.float() - noise).square().mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average([p.grad for p in self.unet.parameters() if p.grad is not None], self.state)
        nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self._optimizer.step()
        self.mean.update(self.unet, index)
        if (index + 1) % self.recipe.validate_every == 0 or index + 1 == self.recipe.steps:
            self._review(index + 1)
        return {"loss": float(loss.detach())}

    def _draw(self, index: int) -> _Batch:
        """The data of one step, drawn from its own generator; on the CPU."""
        processes = self.state.num_processes
        seed = self.recipe.seed * processes + self.state.process_index
        generator = step_generator(seed, index)
        clips, _ = self._clips.batch(max(1, self.recipe.batch // processes), generator)
        return self._with_noise(clips, generator)

    def _with_noise(self, clips: Tensor, generator: Generator) -> _Batch:
        factor, channels = self.pipeline.vae_scale_factor, self.unet.config.in_channels
        count, frames, _, height, width = clips.shape
        latents = (channels, frames, height // factor, width // factor)
        share = self.recipe.white_share
        noise = [draw_noise(tuple(clip.shape), latents, share, generator) for clip in clips]
        most = self.recipe.max_timestep
        return _Batch(clips, noise, torch.randint(most + 1, (count,), generator=generator))

    @torch.no_grad()
    def _add_noise(self, drawn: _Batch) -> tuple[Tensor, Tensor]:
        """Noisy latents and their noise, [B, C, T, h, w] both."""
        latents = self.pipeline.encode(drawn.clips.to(self.state.device))
        noise = torch.stack([latent_noise(one, self.pipeline) for one in drawn.noise])
        alpha = self._alphas[drawn.timesteps].view(-1, 1, 1, 1, 1).to(self.state.device)
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise, noise

    def _call(self, network: Any, noisy: Tensor, timesteps: Tensor) -> Tensor:
        prompt = self.pipeline.prompt_embedding(len(noisy))
        times = timesteps.to(self.state.device)
        predicted: Tensor = network(noisy, times, encoder_hidden_states=prompt).sample
        return predicted

    def _noised(self, clips: Tensor, generator: Generator) -> list[_Batch]:
        """The validation clips, with noise that is the same in every validation."""
        parts = clips.split(_CLIPS_AT_ONCE) if len(clips) else ()
        return [self._with_noise(part, generator) for part in parts]

    @torch.no_grad()
    def _review(self, step: int) -> None:
        """Validate the running mean."""
        if not (self._checked and self.state.is_main_process):
            return
        total = count = 0.0
        for drawn in self._checked:
            noisy, noise = self._add_noise(drawn)
            predicted = self._call(self.mean.network, noisy, drawn.timesteps)
            total += float((predicted - noise).square().mean()) * len(noise)
            count += len(noise)
        self.validation.append({"step": step, "loss": round(total / count, 5)})


class _Kept:
    """A list that checkpoints can hold."""

    def __init__(self, entries: list[dict[str, float]]) -> None:
        self._entries = entries

    def state_dict(self) -> dict[str, Any]:
        return {"entries": list(self._entries)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._entries[:] = state["entries"]


def train_unet(
    trainer: UNetTrainer,
    checkpoint: Path,
    *,
    question: Question | None = None,
    name: str = "unet",
) -> TrainedUNet:
    """Train the pipeline's UNet to predict noise; the pipeline has the mean weights afterwards.

    Args:
        trainer: trainer of the pipeline.
        checkpoint: file; a stopped run resumes from it.
        question: identifies the run of the checkpoint.
        name: shown next to the progress bar.
    """
    parts = {**({"question": question} if question else {}), **trainer.parts}
    recipe, state = trainer.recipe, trainer.state
    before = _seconds(checkpoint)
    try:
        log = train_steps(
            name, recipe.steps, trainer.step, parts, checkpoint, writes=state.is_main_process
        )
    finally:
        trainer.ahead.close()
    trainer.unet.load_state_dict(trainer.mean.state_dict())
    trainer.unet.eval()
    spent = log.seconds - before
    waiting = trainer.ahead.waited / spent if spent > 0 else 0.0
    precision = str(trainer.half or torch.float32).removeprefix("torch.")
    return TrainedUNet(log, trainer.validation, waiting, precision)


def _seconds(checkpoint: Path) -> float:
    """Seconds that earlier runs trained."""
    if not checkpoint.exists():
        return 0.0
    return float(torch.load(checkpoint, weights_only=True)["log"]["seconds"])


@torch.no_grad()
def denoising_psnr(pipeline: VideoPurePipeline, clips: Tensor, timestep: int, seed: int) -> float:
    """PSNR in dB of clips [B, T, 3, H, W] restored in one step from white noise at `timestep`."""
    latents = pipeline.encode(clips.to(pipeline.device))
    noise = torch.randn(latents.shape, generator=Generator().manual_seed(seed)).to(latents)
    alpha = float(pipeline.scheduler.alphas_cumprod[timestep])
    noisy = alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise
    predicted = pipeline.predict_noise(noisy, timestep)
    restored = pipeline.decode((noisy - (1 - alpha) ** 0.5 * predicted) / alpha**0.5)
    error = (restored.cpu() - clips.cpu()).square().mean()
    return float(-10 * torch.log10(error))
