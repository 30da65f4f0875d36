"""APGD: PGD that finds its step size by itself (Croce and Hein, arXiv 2003.01690)."""

from __future__ import annotations

import itertools

import torch
from torch import Generator, Tensor

from videopure.evaluation.attacks.gradient import project, random_start
from videopure.evaluation.attacks.losses import Loss, gradient

__all__ = ["apgd"]

_MOMENTUM = 0.75
_PROGRESS = 0.75  # share of steps that must raise the loss


def apgd(
    loss: Loss,
    clips: Tensor,
    *,
    epsilon: float,
    steps: int = 50,
    start: Tensor | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Raise the loss with momentum and a step that is halved where progress stalls.

    Args:
        loss: to be raised.
        clips: [B, T, 3, H, W] in 0..1.
        epsilon: largest change of a pixel (L-inf), in 0..1.
        steps: gradient steps.
        start: attacked clips to go on from; drawn at random when None.
        generator: of the random start.

    Returns:
        The clips of the highest loss on the way, like `clips`.
    """
    begin = random_start(clips, epsilon, generator) if start is None else start
    state = _Search(loss, clips, project(begin, clips, epsilon), epsilon)
    checkpoints = _checkpoints(steps)
    for step in range(1, steps + 1):
        if state.done:
            break
        state.move(step)
        if step in checkpoints:
            state.review(checkpoints[step])
    return state.best


def _checkpoints(steps: int) -> dict[int, int]:
    """Steps at which the step size is reviewed, and how many steps after the review before."""
    points = [0.0, 0.22]
    while points[-1] < 1:
        points.append(points[-1] + max(points[-1] - points[-2] - 0.03, 0.06))
    at = [-(-round(1000 * point) * steps // 1000) for point in points]
    return {now: now - before for before, now in itertools.pairwise(at) if now > before}


class _Search:
    """Where the search of each clip of a batch stands."""

    def __init__(self, loss: Loss, clips: Tensor, begin: Tensor, epsilon: float) -> None:
        self._loss, self._clips, self._epsilon = loss, clips, epsilon
        self._size = torch.full((len(clips), 1, 1, 1, 1), 2 * epsilon).to(clips)
        self._values, self._slope = gradient(loss, begin)
        self._now = self._before = begin
        self.best, self._best_slope, self._best_values = begin, self._slope, self._values
        self._raised = torch.zeros_like(self._values)
        self._halved = torch.zeros(len(clips), dtype=torch.bool, device=clips.device)
        self._best_at_review = self._best_values

    @property
    def done(self) -> bool:
        """Whether the loss of every clip is infinite: nothing is left to gain."""
        return bool(torch.isinf(self._best_values).all())

    def move(self, step: int) -> None:
        """One step with momentum; the first has none."""
        plain = project(self._now + self._size * self._slope.sign(), self._clips, self._epsilon)
        momentum = 1.0 if step == 1 else _MOMENTUM
        moved = (
            self._now + momentum * (plain - self._now) + (1 - momentum) * (self._now - self._before)
        )
        moved = project(moved, self._clips, self._epsilon)
        values, slope = gradient(self._loss, moved)
        self._raised += (values > self._values).to(self._raised)
        self._before, self._now, self._values, self._slope = self._now, moved, values, slope
        better = values > self._best_values
        self.best = _choose(better, moved, self.best)
        self._best_slope = _choose(better, slope, self._best_slope)
        self._best_values = torch.where(better, values, self._best_values)

    def review(self, since: int) -> None:
        """Halve the step and go back to the best where the last steps brought too little."""
        few = self._raised < _PROGRESS * since
        # A step that has just been halved gets another chance.
        stuck = ~self._halved & (self._best_values <= self._best_at_review)
        halve = few | stuck
        self._size = torch.where(halve[:, None, None, None, None], self._size / 2, self._size)
        self._now = _choose(halve, self.best, self._now)
        self._before = _choose(halve, self.best, self._before)
        self._slope = _choose(halve, self._best_slope, self._slope)
        self._values = torch.where(halve, self._best_values, self._values)
        self._halved = halve
        self._best_at_review = self._best_values
        self._raised = torch.zeros_like(self._raised)


def _choose(rows: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Clips of `first` where `rows` [B] is true, else of `second`."""
    return torch.where(rows[:, None, None, None, None], first, second)
