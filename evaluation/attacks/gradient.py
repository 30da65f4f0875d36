"""Attacks with gradients, on any `Loss`: PGD, MI-FGSM, and those made for videos.

Each takes clips [B, T, 3, H, W] in 0..1 and answers attacked ones, like them, within `epsilon` of
them (L-inf, in 0..1) and in 0..1. PGD and APGD keep a clip whose loss is infinite, for it is done,
and stop when all are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from videopure.evaluation.attacks.losses import Loss, gradient

__all__ = ["flickering", "mi_fgsm", "pgd", "project", "random_start", "sparse_frames"]

OnStep = Callable[[], object]


def project(moved: Tensor, clips: Tensor, epsilon: float) -> Tensor:
    """The nearest clips within `epsilon` of `clips` and in 0..1."""
    return torch.clamp(moved, clips - epsilon, clips + epsilon).clamp(0, 1)


def random_start(clips: Tensor, epsilon: float, generator: Generator | None) -> Tensor:
    """Uniformly drawn clips within `epsilon`."""
    drawn = torch.rand(clips.shape, generator=generator).to(clips) * 2 - 1
    return (clips + epsilon * drawn).clamp(0, 1)


def pgd(
    loss: Loss,
    clips: Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float = 2 / 255,
    start: Tensor | None = None,
    keep_best: bool = False,
    generator: Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Projected gradient descent (Madry et al., arXiv 1706.06083).

    A clip of infinite loss is done: it is answered as it is, and where all are, no step follows.

    Args:
        loss: to be raised.
        clips: [B, T, 3, H, W] in 0..1.
        epsilon: largest change of a pixel.
        steps: gradient steps.
        step_size: change of a pixel in one step.
        start: attacked clips to go on from (a warm start); drawn at random when None.
        keep_best: answer the clips of the highest loss on the way, for one more evaluation of
            the loss, and not the last ones.
        generator: of the random start.
        on_step: called after every step, for progress.
    """
    attacked = random_start(clips, epsilon, generator) if start is None else start
    attacked = project(attacked, clips, epsilon)
    best = _Best(attacked, keep_best)
    for _ in range(steps):
        values, slope = gradient(loss, attacked)
        best.offer(attacked, values)
        if best.done.all():
            return best.clips
        attacked = project(attacked + step_size * slope.sign(), clips, epsilon)
        if on_step is not None:
            on_step()
    if not keep_best:
        best.offer(attacked, torch.zeros(len(clips)).to(clips))
        return best.clips
    with torch.no_grad():
        best.offer(attacked, loss(attacked))
    return best.clips


class _Best:
    """For each clip the version to answer: the last one, or that of the highest loss seen.

    A clip that is done, for its loss is infinite, stays as it is.
    """

    def __init__(self, clips: Tensor, keep_highest: bool) -> None:
        self.clips = clips
        self._keep_highest = keep_highest
        self._values = torch.full((len(clips),), -torch.inf, device=clips.device)

    @property
    def done(self) -> Tensor:
        """Which clips are done, [B]."""
        return self._values == torch.inf

    def offer(self, clips: Tensor, values: Tensor) -> None:
        better = values > self._values if self._keep_highest else ~self.done
        self.clips = torch.where(better[:, None, None, None, None], clips, self.clips)
        self._values = torch.where(better, values.to(self._values.dtype), self._values)


def mi_fgsm(
    loss: Loss,
    clips: Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float = 2 / 255,
    decay: float = 1.0,
) -> Tensor:
    """Iterated gradient signs with momentum (Dong et al., arXiv 1710.06081).

    The published step is `epsilon / steps`, which only just reaches the budget and fools fewer
    clips than PGD does; here it is as long as PGD's.
    """
    attacked, momentum = clips, torch.zeros_like(clips)
    for _ in range(steps):
        _, slope = gradient(loss, attacked)
        size = slope.abs().mean(dim=(1, 2, 3, 4), keepdim=True).clamp_min(1e-20)
        momentum = decay * momentum + slope / size
        attacked = project(attacked + step_size * momentum.sign(), clips, epsilon)
    return attacked


def flickering(
    loss: Loss,
    clips: Tensor,
    *,
    epsilon: float,
    steps: int = 50,
    step_size: float = 1 / 255,
    generator: Generator | None = None,
) -> Tensor:
    """One change of colour for the whole of each frame (Pony et al., arXiv 2002.05123).

    The published attack weighs visibility against the label; here `epsilon` bounds it, as it
    bounds the others, and nothing else does.
    """
    offsets = clips.new_zeros((*clips.shape[:3], 1, 1))
    offsets += epsilon * (torch.rand(offsets.shape, generator=generator).to(clips) * 2 - 1)
    for _ in range(steps):
        _, slope = gradient(loss, (clips + offsets).clamp(0, 1))
        direction = slope.sum(dim=(3, 4), keepdim=True).sign()
        offsets = (offsets + step_size * direction).clamp(-epsilon, epsilon)
    return (clips + offsets).clamp(0, 1)


def sparse_frames(
    loss: Loss,
    clips: Tensor,
    *,
    epsilon: float,
    frames: int = 4,
    steps: int = 50,
    step_size: float = 2 / 255,
    generator: Generator | None = None,
) -> Tensor:
    """PGD on a few frames alone (after Wei et al., arXiv 1803.02536).

    Those frames are changed on which the clean clip's loss depends most (L1 norm of its gradient).
    """
    if not 1 <= frames <= clips.shape[1]:
        raise ValueError(f"frames must be in 1..{clips.shape[1]}, got {frames}")
    _, slope = gradient(loss, clips)
    chosen = slope.abs().sum(dim=(2, 3, 4)).topk(frames, dim=1).indices  # [B, frames]
    mask = torch.zeros(clips.shape[:2], device=clips.device).scatter(1, chosen, 1.0)
    mask = mask[:, :, None, None, None].to(clips)
    attacked = clips + mask * (random_start(clips, epsilon, generator) - clips)
    for _ in range(steps):
        _, slope = gradient(loss, attacked)
        attacked = project(attacked + step_size * mask * slope.sign(), clips, epsilon)
    return attacked
