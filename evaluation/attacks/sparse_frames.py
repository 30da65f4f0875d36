"""Sparse frames: PGD on only a few frames (after Wei et al., arXiv 1803.02536)."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from videopure.evaluation.attacks.base import Budget, GradientAttack, random_start
from videopure.evaluation.attacks.losses import Loss, gradient
from videopure.evaluation.attacks.threat_models import Attack, Task

__all__ = ["ATTACKS", "sparse_frames"]

STEPS = 25  # used by the suites


def sparse_frames(loss: Loss, clips: Tensor, frames: int = 4, **budget: Unpack[Budget]) -> Tensor:
    """PGD on the frames that the clean clip's loss depends on most (L1 norm of its gradient).

    Args:
        loss: the loss to raise.
        clips: [B, T, 3, H, W] in 0..1.
        frames: number of frames to change in each clip, 1..T.
        budget: see `GradientAttack`.

    Raises:
        ValueError: if `frames` is out of range.
    """
    if not 1 <= frames <= clips.shape[1]:
        raise ValueError(f"frames must be in 1..{clips.shape[1]}, got {frames}")
    return _SparseFrames(loss, clips, frames, **budget).run()


class _SparseFrames(GradientAttack):
    _mask: Tensor  # 1 where a frame may change, [B, T, 1, 1, 1]

    def __init__(self, loss: Loss, clips: Tensor, frames: int, **budget: Unpack[Budget]) -> None:
        super().__init__(loss, clips, **budget)
        self._frames = frames

    def start(self) -> Tensor:
        _, grad = gradient(self.loss, self.clips)
        chosen = grad.abs().sum(dim=(2, 3, 4)).topk(self._frames, dim=1).indices  # [B, frames]
        mask = torch.zeros(self.clips.shape[:2], device=self.clips.device).scatter(1, chosen, 1.0)
        self._mask = mask[:, :, None, None, None].to(self.clips)
        drawn = random_start(self.clips, self.epsilon, self.generator)
        return self.clips + self._mask * (drawn - self.clips)

    def direction(self, grad: Tensor) -> Tensor:
        return self._mask * grad.sign()


def _on_recogniser(task: Task) -> Tensor:
    return sparse_frames(
        task.bare_loss(), task.clips, epsilon=task.epsilon, steps=STEPS, generator=task.generator
    )


ATTACKS = (Attack("sparse frames", "gray-box", _on_recogniser),)
