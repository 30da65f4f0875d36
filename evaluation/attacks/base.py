"""The loop that gradient attacks share: where they start, how they step, what they keep.

An attack is a function of a loss and clips; it runs a `GradientAttack` that overrides the hooks in
which it differs from PGD. All take clips [B, T, 3, H, W] in 0..1 and return attacked ones, like
them, within `epsilon` of them (L-inf, in 0..1) and in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Required, TypedDict

import torch
from torch import Generator, Tensor

from videopure.evaluation.attacks.losses import Loss, gradient

__all__ = ["Budget", "GradientAttack", "OnStep", "choose", "project", "random_start"]

OnStep = Callable[[], object]


class Budget(TypedDict, total=False):
    """The budget of any attack; arguments as for `GradientAttack`."""

    epsilon: Required[float]
    steps: int
    step_size: float
    warm_start: Tensor | None
    keep_best: bool
    generator: Generator | None


def project(moved: Tensor, clips: Tensor, epsilon: float) -> Tensor:
    """The nearest clips within `epsilon` of `clips` and in 0..1."""
    return torch.clamp(moved, clips - epsilon, clips + epsilon).clamp(0, 1)


def random_start(clips: Tensor, epsilon: float, generator: Generator | None) -> Tensor:
    """Uniformly drawn clips within `epsilon`."""
    drawn = torch.rand(clips.shape, generator=generator).to(clips) * 2 - 1
    return (clips + epsilon * drawn).clamp(0, 1)


def choose(rows: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Clips of `first` where `rows` [B] is true, otherwise of `second`."""
    return torch.where(rows[:, None, None, None, None], first, second)


class GradientAttack:
    """One run of a search on a batch; by default projected gradient descent.

    Subclasses override `start`, `direction`, `step` or `finish`. A clip of infinite loss is done
    (see `EOTLoss`): it is not changed any more, and when all are done, the search ends.

    Args:
        loss: the loss to raise.
        clips: [B, T, 3, H, W] in 0..1.
        epsilon: largest change of a pixel (L-inf), in 0..1.
        steps: gradient steps.
        step_size: change of a pixel in one step, in 0..1.
        warm_start: attacked clips to continue from; drawn at random when None.
        keep_best: return the clips with the highest loss on the way instead of the last ones.
        generator: generator of the random start.
        on_step: called after every step, for progress.
    """

    def __init__(
        self,
        loss: Loss,
        clips: Tensor,
        *,
        epsilon: float,
        steps: int = 50,
        step_size: float = 2 / 255,
        warm_start: Tensor | None = None,
        keep_best: bool = False,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> None:
        self.loss, self.clips, self.epsilon = loss, clips, epsilon
        self.steps, self.step_size = steps, step_size
        self.warm_start, self.generator = warm_start, generator
        self.keep_best, self.on_step = keep_best, on_step
        self.kept = clips
        self.kept_values = clips.new_full((len(clips),), -torch.inf)

    def run(self) -> Tensor:
        """Start, then compute the loss, keep, and step, until all clips are done."""
        attacked = self.kept = self.start()
        for _ in range(self.steps):
            values, grad = gradient(self.loss, attacked)
            self.keep(attacked, values, grad)
            if self.done.all():
                return self.kept
            attacked = self.step(attacked, values, grad)
            if self.on_step is not None:
                self.on_step()
        self.finish(attacked)
        return self.kept

    @property
    def done(self) -> Tensor:
        """Which clips are done, [B]."""
        return self.kept_values == torch.inf

    def start(self) -> Tensor:
        """Hook: the first attacked clips, within the budget."""
        if self.warm_start is None:
            begin = random_start(self.clips, self.epsilon, self.generator)
        else:
            begin = self.warm_start
        return project(begin, self.clips, self.epsilon)

    def direction(self, grad: Tensor) -> Tensor:
        """Hook: the direction of a step, like the clips."""
        return grad.sign()

    def step(self, attacked: Tensor, values: Tensor, grad: Tensor) -> Tensor:
        """Hook: the next attacked clips; `values` [B] and `grad` are the current loss."""
        moved = attacked + self.step_size * self.direction(grad)
        return project(moved, self.clips, self.epsilon)

    def keep(self, attacked: Tensor, values: Tensor, grad: Tensor) -> Tensor:
        """Hook: keep the better clips, or the later ones; returns which are newly kept, [B]."""
        better = values > self.kept_values if self.keep_best else ~self.done
        self.kept = choose(better, attacked, self.kept)
        self.kept_values = torch.where(better, values.to(self.kept_values), self.kept_values)
        return better

    def finish(self, attacked: Tensor) -> None:
        """Hook: keep or drop the clips after the last step, whose loss was not computed."""
        better = ~self.done
        if self.keep_best:
            with torch.no_grad():
                better = self.loss(attacked) > self.kept_values
        self.kept = choose(better, attacked, self.kept)
