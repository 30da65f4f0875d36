"""Threat models: what an attacker knows, and how much they may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor

from videopure.evaluation.attacks.losses import Loss, LossKind, cross_entropy, label_loss
from videopure.evaluation.defences.base import Defence
from videopure.purifier.recognisers import Recogniser

__all__ = ["CLEAN", "AdaptiveAttack", "Attack", "Knowledge", "Task", "Threat", "as_stored"]

Knowledge = Literal["clean", "gray-box", "black-box", "queries", "adaptive"]
EOT_DRAWS = 2


@dataclass(frozen=True)
class Task:
    """Clips to attack.

    Args:
        clips: [B, T, 3, H, W] in 0..1.
        labels: true classes [B].
        recogniser: the recogniser behind the defences.
        epsilon: largest change of a pixel, in 0..1.
        generator: generator of all random draws of the attack.
        transfer: another recogniser with the same classes.
        defence: the defence under attack, for adaptive threats.
        together: adaptive attacks take all clips at once, which suits a GPU, and draw for all of
            them together; otherwise each clip is attacked alone, with its own randomness.
    """

    clips: Tensor
    labels: Tensor
    recogniser: Recogniser
    epsilon: float
    generator: Generator
    transfer: Recogniser | None = None
    defence: Defence | None = None
    together: bool = False

    @property
    def target(self) -> Defence:
        """The defence under attack."""
        if self.defence is None:
            raise ValueError("an adaptive threat needs a defence to attack, got None")
        return self.defence

    def bare_loss(self, kind: LossKind = cross_entropy) -> Loss:
        """The loss of the recogniser itself."""
        return label_loss(self.recogniser.logits, self.labels, kind)

    def rows(self, rows: Tensor) -> Task:
        """The task with some of the clips, given their numbers [N]."""
        return replace(self, clips=self.clips[rows], labels=self.labels[rows])

    def one_by_one(self) -> list[Task]:
        """A task for each clip, with its own randomness."""
        seeds = torch.randint(2**62, (len(self.clips),), generator=self.generator).tolist()
        return [
            replace(
                self,
                clips=self.clips[k : k + 1],
                labels=self.labels[k : k + 1],
                generator=Generator().manual_seed(seed),
            )
            for k, seed in enumerate(seeds)
        ]


@dataclass(frozen=True)
class Threat:
    """An attack at one budget, with the attacker's knowledge.

    Args:
        family: the attack, such as "PGD-10".
        knowledge: what the attacker has. Adaptive and query attacks attack the defence that they
            are evaluated on.
        epsilon: in 1/255; 0 changes nothing and 255 everything.
        attack: task -> attacked clips.
        answers: how often a randomised defence answers the attacked clips.
    """

    family: str
    knowledge: Knowledge
    epsilon: int
    attack: Callable[[Task], Tensor]
    answers: int = 1

    @property
    def name(self) -> str:
        """Family and budget."""
        if self.knowledge == "clean":
            return self.family
        return f"{self.family} {self.epsilon}/255" if self.epsilon < 255 else self.family

    @property
    def targeted(self) -> bool:
        """Whether each defence is attacked separately."""
        return self.knowledge in ("adaptive", "queries")

    def __call__(self, task: Task) -> Tensor:
        """Attacked clips as they are stored."""
        return as_stored(self.attack(task))


def as_stored(clips: Tensor) -> Tensor:
    """Clips in 0..1 rounded to the 256 levels that a stored clip has."""
    return (clips * 255).round() / 255


CLEAN = Threat("clean", "clean", 0, lambda task: task.clips)


@dataclass(frozen=True)
class Attack:
    """A static attack on the bare recogniser, by an attacker who does not know the defence.

    Args:
        name: its name in tables, such as "PGD-10".
        knowledge: gray-box has the recogniser's gradients, black-box does not.
        run: task -> attacked clips.
    """

    name: str
    knowledge: Literal["gray-box", "black-box"]
    run: Callable[[Task], Tensor]

    def at(self, epsilon: int) -> Threat:
        """The threat with a budget of `epsilon` in 1/255."""
        return Threat(self.name, self.knowledge, epsilon, self.run)


@dataclass(frozen=True)
class AdaptiveAttack:
    """An attack on a defence by an attacker who has all of it.

    Args:
        name: its name in tables without the steps: "exact" becomes "exact-20".
        run: a task, gradient steps, and draws of the defence's randomness for each
            gradient -> the attacked clips.
    """

    name: str
    run: Callable[[Task, int, int], Tensor]

    def at(self, epsilon: int, steps: int, draws: int = EOT_DRAWS) -> Threat:
        """The threat with a budget of `epsilon` in 1/255; more draws than usual are in its name.

        See `Task.together`.
        """
        more = f" of {draws} draws" if draws > EOT_DRAWS else ""

        def each(task: Task) -> Tensor:
            parts = [task] if task.together else task.one_by_one()
            return torch.cat([self.run(part, steps, draws) for part in parts])

        return Threat(f"{self.name}-{steps}{more}", "adaptive", epsilon, each)
