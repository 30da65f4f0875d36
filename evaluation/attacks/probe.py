"""Measures where a gradient attack starts: whether there is a gradient to follow."""

from __future__ import annotations

from functools import partial

import torch

from videopure.evaluation.attacks.losses import gradient, label_loss
from videopure.evaluation.attacks.threat_models import Task

__all__ = ["SATURATED", "probe"]

# Below this cross-entropy float32 rounds the true class's probability to 1 and the gradient away.
SATURATED = 1e-6


def probe(task: Task) -> list[dict[str, float]]:
    """The exact gradient of the soft vote on each clean clip.

    Returns:
        For each clip its cross-entropy (`loss`), the share of values whose gradient is zero or not
        finite (`zero`), and the largest magnitude in the gradient (`largest`).
    """
    found = []
    for clip, label in zip(task.clips.split(1), task.labels.split(1), strict=True):
        loss = label_loss(partial(task.target.logits, seeds=[0]), label)
        values, grad = gradient(loss, clip)
        alive = grad.isfinite() & (grad != 0)
        found.append(
            {
                "loss": float(values),
                "zero": 1 - float(alive.double().mean()),
                "largest": float(torch.where(alive, grad.abs(), 0.0).max()),
            }
        )
    return found
