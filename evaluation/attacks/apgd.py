"""APGD: PGD that adapts its step size (Croce and Hein, arXiv 2003.01690)."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Generator, Tensor

from videopure.evaluation.attacks.base import GradientAttack, choose, project
from videopure.evaluation.attacks.losses import Loss, LossKind, cross_entropy, gradient, margin
from videopure.evaluation.attacks.threat_models import Attack, Task

__all__ = ["ATTACKS", "apgd"]

STEPS = 25  # used by the suites

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
    """Raise the loss with momentum and a step that is halved when progress stalls.

    Args:
        loss: the loss to raise.
        clips: [B, T, 3, H, W] in 0..1.
        epsilon: largest change of a pixel (L-inf), in 0..1.
        steps: gradient steps.
        start: attacked clips to continue from; drawn at random when None.
        generator: generator of the random start.

    Returns:
        The clips with the highest loss on the way, like `clips`.
    """
    return _APGD(
        loss, clips, epsilon=epsilon, steps=steps, warm_start=start, generator=generator
    ).run()


class _APGD(GradientAttack):
    """The state of the search for each clip of a batch."""

    # From the first step on: the current and previous clips, the current loss and gradient, how
    # often a step has raised the loss since the last review, and the best loss at that time.
    _now: Tensor
    _before: Tensor
    _values: Tensor
    _grad: Tensor
    _raised: Tensor
    _kept_at_review: Tensor

    def __init__(self, loss: Loss, clips: Tensor, **budget: Any) -> None:
        super().__init__(loss, clips, keep_best=True, **budget)
        self._checkpoints = _checkpoints(self.steps)
        self._taken = 0
        self._size = torch.full((len(clips), 1, 1, 1, 1), 2 * self.epsilon).to(clips)
        self._halved = torch.zeros(len(clips), dtype=torch.bool, device=clips.device)
        self._kept_grad = torch.zeros_like(clips)

    def keep(self, attacked: Tensor, values: Tensor, grad: Tensor) -> Tensor:
        """Keep the gradient of the best clips too: the search may go back to them."""
        better = super().keep(attacked, values, grad)
        self._kept_grad = choose(better, grad, self._kept_grad)
        return better

    def step(self, attacked: Tensor, values: Tensor, grad: Tensor) -> Tensor:
        """One step with momentum, after a review if one is due; the first has no momentum."""
        if self._taken == 0:
            self._before, self._kept_at_review = attacked, self.kept_values
            self._raised = torch.zeros_like(values)
        else:
            self._raised += (values > self._values).to(self._raised)
        self._now, self._values, self._grad = attacked, values, grad
        if self._taken in self._checkpoints:
            self._review(self._checkpoints[self._taken])
        momentum = 1.0 if self._taken == 0 else _MOMENTUM
        self._taken += 1
        plain = project(self._now + self._size * self._grad.sign(), self.clips, self.epsilon)
        moved = (
            self._now + momentum * (plain - self._now) + (1 - momentum) * (self._now - self._before)
        )
        self._before = self._now
        return project(moved, self.clips, self.epsilon)

    def finish(self, attacked: Tensor) -> None:
        """Evaluate the last clips, as all others were."""
        self.keep(attacked, *gradient(self.loss, attacked))

    def _review(self, since: int) -> None:
        """Halve the step and go back to the best clips if the last steps gained too little."""
        few = self._raised < _PROGRESS * since
        # A step that was just halved gets another chance.
        stuck = ~self._halved & (self.kept_values <= self._kept_at_review)
        halve = few | stuck
        self._size = torch.where(halve[:, None, None, None, None], self._size / 2, self._size)
        self._now = choose(halve, self.kept, self._now)
        self._before = choose(halve, self.kept, self._before)
        self._grad = choose(halve, self._kept_grad, self._grad)
        self._values = torch.where(halve, self.kept_values.to(self._values), self._values)
        self._halved = halve
        self._kept_at_review = self.kept_values
        self._raised = torch.zeros_like(self._raised)


def _checkpoints(steps: int) -> dict[int, int]:
    """Steps after which the step size is reviewed, and how many since the review before."""
    points = [0.0, 0.22]
    while points[-1] < 1:
        points.append(points[-1] + max(points[-1] - points[-2] - 0.03, 0.06))
    at = [-(-round(1000 * point) * steps // 1000) for point in points]
    return {now: now - before for before, now in itertools.pairwise(at) if now > before}


def _on_recogniser(task: Task, kind: LossKind) -> Tensor:
    return apgd(
        task.bare_loss(kind),
        task.clips,
        epsilon=task.epsilon,
        steps=STEPS,
        generator=task.generator,
    )


ATTACKS = (
    Attack("APGD-CE", "gray-box", lambda task: _on_recogniser(task, cross_entropy)),
    Attack("APGD-margin", "gray-box", lambda task: _on_recogniser(task, margin)),
)
