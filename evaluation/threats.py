"""What attackers know and do: every threat of the suites, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from videopure.evaluation.apgd import apgd
from videopure.evaluation.attacks import flickering, mi_fgsm, pgd, sparse_frames
from videopure.evaluation.defences import Defence
from videopure.evaluation.losses import (
    Loss,
    SeededLoss,
    Votes,
    cross_entropy,
    evasion,
    expectation,
    label_loss,
    margin,
    soft_vote,
)
from videopure.evaluation.square import square
from videopure.purifier.recognisers import Recogniser

__all__ = [
    "CLEAN",
    "Knowledge",
    "Task",
    "Threat",
    "adaptive",
    "gray_box",
    "square_threat",
    "unbounded",
]

Knowledge = Literal["clean", "gray-box", "black-box", "adaptive"]
ADAPTIVE_STEPS = 20
EOT_DRAWS = 4


@dataclass(frozen=True)
class Task:
    """Clips to attack.

    Args:
        clips: [B, T, 3, H, W] in 0..1.
        labels: true classes [B].
        recogniser: the one behind the defences.
        epsilon: largest change of a pixel, in 0..1.
        generator: of all that the attack draws.
        transfer: another recogniser of the same classes.
        defence: the one under attack, for adaptive threats.
    """

    clips: Tensor
    labels: Tensor
    recogniser: Recogniser
    epsilon: float
    generator: Generator
    transfer: Recogniser | None = None
    defence: Defence | None = None

    @property
    def target(self) -> Defence:
        """The defence under attack."""
        if self.defence is None:
            raise ValueError("an adaptive threat needs a defence to attack, got None")
        return self.defence

    def bare_loss(self, kind: Callable[[Tensor, Tensor], Tensor] = cross_entropy) -> Loss:
        """The loss of the recogniser itself."""
        return label_loss(self.recogniser.logits, self.labels, kind)


@dataclass(frozen=True)
class Threat:
    """One kind of attack at one budget.

    Args:
        family: the attack, such as "PGD-10".
        knowledge: what the attacker has. Adaptive ones attack the defence they are evaluated on.
        epsilon: in 1/255; 0 changes nothing and 255 everything.
        attack: task -> attacked clips.
    """

    family: str
    knowledge: Knowledge
    epsilon: int
    attack: Callable[[Task], Tensor]

    @property
    def name(self) -> str:
        """Family and budget."""
        if self.knowledge == "clean":
            return self.family
        return f"{self.family} {self.epsilon}/255" if self.epsilon < 255 else self.family

    def __call__(self, task: Task) -> Tensor:
        """Attacked clips, rounded to the 256 levels that a stored clip has."""
        return (self.attack(task) * 255).round() / 255


CLEAN = Threat("clean", "clean", 0, lambda task: task.clips)


def gray_box(epsilon: int) -> dict[str, Threat]:
    """Attacks with the gradients of the recogniser, or of another one, by family."""
    attacks: dict[str, Callable[[Task], Tensor]] = {
        "PGD-10": _pgd(10),
        "PGD-50": _pgd(50),
        "APGD-CE": _apgd(cross_entropy),
        "APGD-margin": _apgd(margin),
        "MI-FGSM": lambda t: mi_fgsm(t.bare_loss(), t.clips, epsilon=t.epsilon),
        "flickering": lambda t: flickering(
            t.bare_loss(), t.clips, epsilon=t.epsilon, generator=t.generator
        ),
        "sparse frames": lambda t: sparse_frames(
            t.bare_loss(), t.clips, epsilon=t.epsilon, generator=t.generator
        ),
    }
    threats = {name: Threat(name, "gray-box", epsilon, a) for name, a in attacks.items()}
    threats["transfer"] = Threat("transfer", "black-box", epsilon, _transfer)
    return threats


def square_threat(epsilon: int, queries: int = 1000) -> Threat:
    """Random search with the bare recogniser's answers alone."""
    return Threat(
        f"Square-{queries}",
        "black-box",
        epsilon,
        lambda t: square(
            t.recogniser.logits,
            t.clips,
            t.labels,
            epsilon=t.epsilon,
            queries=queries,
            generator=t.generator,
        ),
    )


def adaptive(
    epsilon: int, steps: int = ADAPTIVE_STEPS, draws: int = EOT_DRAWS
) -> dict[str, Threat]:
    """Attacks on a defence by someone who has all of it, by family.

    Where the defence draws at random, every gradient is the mean over `draws` fresh draws.
    """

    def threat(family: str, attack: Callable[[Task], Tensor]) -> tuple[str, Threat]:
        return family, Threat(family, "adaptive", epsilon, attack)

    return dict(
        [
            threat(f"BPDA-{steps}", lambda t: _descend(t, _bpda_loss(t), steps, draws)),
            threat(f"exact-{steps}", lambda t: _descend(t, _soft_loss(t), steps, draws)),
            threat(
                f"exact APGD-{steps}",
                lambda t: apgd(
                    _expected(t, _soft_loss(t, margin), draws),
                    t.clips,
                    epsilon=t.epsilon,
                    steps=steps,
                    start=_warm_start(t),
                ),
            ),
            threat(
                f"label and suspicion-{steps}",
                lambda t: _descend(t, _evasion_loss(t), steps, draws),
            ),
        ]
    )


def unbounded(steps: int = ADAPTIVE_STEPS) -> Threat:
    """Any pixel may become anything: a defence that survives this hides its gradient."""

    def attack(task: Task) -> Tensor:
        return _descend(task, _soft_loss(task, margin), steps, draws=1)

    return Threat("unbounded", "adaptive", 255, attack)


def _pgd(steps: int) -> Callable[[Task], Tensor]:
    return lambda t: pgd(
        t.bare_loss(), t.clips, epsilon=t.epsilon, steps=steps, generator=t.generator
    )


def _apgd(kind: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Task], Tensor]:
    return lambda t: apgd(t.bare_loss(kind), t.clips, epsilon=t.epsilon, generator=t.generator)


def _transfer(task: Task) -> Tensor:
    """PGD-10 on another recogniser."""
    if task.transfer is None:
        raise ValueError("a transfer attack needs a second recogniser, got None")
    loss = label_loss(task.transfer.logits, task.labels)
    return pgd(loss, task.clips, epsilon=task.epsilon, generator=task.generator)


def _descend(task: Task, loss: SeededLoss, steps: int, draws: int) -> Tensor:
    """PGD from the gray-box result, with steps of a quarter of the budget.

    The best clips on the way are kept where the loss is the same at every call.
    """
    return pgd(
        _expected(task, loss, draws),
        task.clips,
        epsilon=task.epsilon,
        steps=steps,
        step_size=task.epsilon / 4,
        start=_warm_start(task),
        keep_best=not task.target.randomised,
    )


def _warm_start(task: Task) -> Tensor:
    return _pgd(10)(task)


def _expected(task: Task, loss: SeededLoss, draws: int) -> Loss:
    return expectation(loss, draws if task.target.randomised else 1, task.generator)


def _soft_loss(task: Task, kind: Callable[[Tensor, Tensor], Tensor] = cross_entropy) -> SeededLoss:
    """Loss of the soft vote, with the true gradient where there is one."""
    votes = task.target.votes if task.target.exact else task.target.bpda()
    return lambda clips, seeds: kind(soft_vote(votes(clips, seeds)), task.labels)


def _bpda_loss(task: Task) -> SeededLoss:
    """The mean loss over the votes, the purifier taken for the identity, as in the paper."""
    votes: Votes = task.target.bpda()

    def loss(clips: Tensor, seeds: Sequence[int]) -> Tensor:
        ballots = zip(votes(clips, seeds), task.labels, strict=True)
        return torch.stack([cross_entropy(b, y.expand(len(b))).mean() for b, y in ballots])

    return loss


def _evasion_loss(task: Task) -> SeededLoss:
    """A wrong label and no suspicion."""

    def loss(clips: Tensor, seeds: Sequence[int]) -> Tensor:
        return evasion(task.recogniser.logits(clips), task.target.votes(clips, seeds), task.labels)

    return loss
