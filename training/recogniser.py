"""Training of the demo's recognisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videopure.motions.clips import Stream
from videopure.motions.dataset import TrainingClips, add_mixed_noise, load_split
from videopure.training.loop import StageLog, step_generator, train_steps

__all__ = ["RecogniserRecipe", "accuracy", "train_recogniser"]


@dataclass(frozen=True)
class RecogniserRecipe:
    """How a recogniser is trained; noise sigma is in units of the 0..1 pixel range."""

    seed: int
    steps: int
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    max_noise_sigma: float = 0.02
    noise_ramp: float = 0.3  # share of the steps over which the noise grows to its maximum


def train_recogniser(
    network: nn.Module,
    clips: TrainingClips,
    recipe: RecogniserRecipe,
    checkpoint: Path,
    name: str,
    device: torch.device,
) -> StageLog:
    """Train a recogniser in place on clean and noisy clips, with bfloat16 autocast."""
    network.to(device).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.15
    )

    def step(index: int) -> dict[str, float]:
        generator = step_generator(recipe.seed, index)
        frames, labels = clips.batch(recipe.batch, generator)
        ramp = min(1.0, index / (recipe.noise_ramp * recipe.steps))
        frames = add_mixed_noise(frames, ramp * recipe.max_noise_sigma, generator)
        frames, labels = frames.to(device), labels.to(device)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(frames)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        skipped = not bool(torch.isfinite(norm))
        if not skipped:  # bfloat16 overflows once in a while; one such step would be the last
            optimizer.step()
        schedule.step()
        hits = (logits.argmax(1) == labels).float().mean()
        loss = torch.zeros_like(loss) if skipped else loss.detach()
        return {"loss": float(loss), "accuracy": float(hits), "skipped": float(skipped)}

    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    log = train_steps(name, recipe.steps, step, parts, checkpoint)
    network.eval()
    return log


@torch.no_grad()
def accuracy(
    classify: Callable[[Tensor], Tensor], stream: Stream, count: int, batch: int = 20
) -> float:
    """Share of the stream's first clips that `classify` (frames -> logits) gets right."""
    hits = 0
    for start in range(0, count, batch):
        frames, labels = load_split(stream, start, min(batch, count - start))
        hits += int((classify(frames).argmax(1).cpu() == labels).sum())
    return hits / count
