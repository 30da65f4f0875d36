"""What attackers know and do: every threat of the suites, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor

from videopure.evaluation.attacks.apgd import apgd
from videopure.evaluation.attacks.gradient import flickering, mi_fgsm, pgd, sparse_frames
from videopure.evaluation.attacks.losses import (
    Loss,
    Pursuit,
    Votes,
    cross_entropy,
    evasion,
    label_loss,
    margin,
    soft_vote,
)
from videopure.evaluation.attacks.square import square
from videopure.evaluation.defences.base import Defence
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
APGD_STEPS = 25
VIDEO_STEPS = 25  # of the attacks made for videos
EOT_DRAWS = 2
# Fresh draws that must all be fooled before a clip is done; one where nothing is drawn.
CHECKS = 4

Kind = Callable[[Tensor, Tensor], Tensor]


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

    def bare_loss(self, kind: Kind = cross_entropy) -> Loss:
        """The loss of the recogniser itself."""
        return label_loss(self.recogniser.logits, self.labels, kind)

    def one_by_one(self) -> list[Task]:
        """A task for each clip, with randomness of its own."""
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
        return _stored(self.attack(task))


def _stored(clips: Tensor) -> Tensor:
    return (clips * 255).round() / 255


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
            t.bare_loss(), t.clips, epsilon=t.epsilon, steps=VIDEO_STEPS, generator=t.generator
        ),
        "sparse frames": lambda t: sparse_frames(
            t.bare_loss(), t.clips, epsilon=t.epsilon, steps=VIDEO_STEPS, generator=t.generator
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

    Where the defence draws at random, every gradient is the mean over `draws` fresh draws; more
    than the usual number are part of the name.

    Each clip is attacked by itself, and no longer than needed: it is done when the defence, asked
    as it is served, answers wrongly to the clip as it will be stored; a defence that draws must do
    so in `CHECKS` fresh draws in a row, and `label and suspicion` goes on until the answer is also
    not called adversarial. What is reported is the answer to the result, with other seeds.
    """

    more = f" of {draws} draws" if draws > EOT_DRAWS else ""

    def threat(attack_name: str, attack: Callable[[Task], Tensor]) -> tuple[str, Threat]:
        family = attack_name + more

        def each(task: Task) -> Tensor:
            return torch.cat([attack(one) for one in task.one_by_one()])

        return family, Threat(family, "adaptive", epsilon, each)

    return dict(
        [
            threat(f"BPDA-{steps}", lambda t: _descend(t, _bpda_loss(t, draws), steps)),
            threat(f"exact-{steps}", lambda t: _descend(t, _soft_loss(t, draws), steps)),
            threat(
                f"exact APGD-{steps}",
                lambda t: apgd(
                    _soft_loss(t, draws, margin),
                    t.clips,
                    epsilon=t.epsilon,
                    steps=steps,
                    start=_warm_start(t),
                ),
            ),
            threat(
                f"label and suspicion-{steps}",
                lambda t: _descend(t, _evasion_loss(t, draws), steps),
            ),
        ]
    )


def unbounded(steps: int = ADAPTIVE_STEPS) -> Threat:
    """Any pixel may become anything: a defence that survives this hides its gradient."""

    def attack(task: Task) -> Tensor:
        alone = task.one_by_one()
        return torch.cat([_descend(t, _soft_loss(t, 1, margin), steps) for t in alone])

    return Threat("unbounded", "adaptive", 255, attack)


def _pgd(steps: int) -> Callable[[Task], Tensor]:
    return lambda t: pgd(
        t.bare_loss(), t.clips, epsilon=t.epsilon, steps=steps, generator=t.generator
    )


def _apgd(kind: Kind) -> Callable[[Task], Tensor]:
    return lambda t: apgd(
        t.bare_loss(kind), t.clips, epsilon=t.epsilon, steps=APGD_STEPS, generator=t.generator
    )


def _transfer(task: Task) -> Tensor:
    """PGD-10 on another recogniser."""
    if task.transfer is None:
        raise ValueError("a transfer attack needs a second recogniser, got None")
    loss = label_loss(task.transfer.logits, task.labels)
    return pgd(loss, task.clips, epsilon=task.epsilon, generator=task.generator)


def _descend(task: Task, loss: Loss, steps: int) -> Tensor:
    """PGD from the gray-box result, with steps of a quarter of the budget.

    The best clips on the way are kept where the loss is the same at every call.
    """
    return pgd(
        loss,
        task.clips,
        epsilon=task.epsilon,
        steps=steps,
        step_size=task.epsilon / 4,
        start=_warm_start(task),
        keep_best=not task.target.randomised,
    )


def _warm_start(task: Task) -> Tensor:
    return _pgd(10)(task)


def _soft_loss(task: Task, draws: int, kind: Kind = cross_entropy) -> Loss:
    """Loss of the soft vote, with the true gradient where there is one."""
    votes = task.target.votes if task.target.exact else task.target.bpda()

    def value(clips: Tensor, ballots: Sequence[Tensor]) -> Tensor:
        return kind(soft_vote(ballots), task.labels)

    return _pursuit(task, votes, value, draws)


def _bpda_loss(task: Task, draws: int) -> Loss:
    """The mean loss over the votes, the purifier taken for the identity, as in the paper."""

    def value(clips: Tensor, ballots: Sequence[Tensor]) -> Tensor:
        pairs = zip(ballots, task.labels, strict=True)
        return torch.stack([cross_entropy(b, y.expand(len(b))).mean() for b, y in pairs])

    return _pursuit(task, task.target.bpda(), value, draws)


def _evasion_loss(task: Task, draws: int) -> Loss:
    """A wrong label and no suspicion."""

    def value(clips: Tensor, ballots: Sequence[Tensor]) -> Tensor:
        return evasion(task.recogniser.logits(clips), ballots, task.labels)

    return _pursuit(task, task.target.votes, value, draws, silent=True)


def _pursuit(
    task: Task,
    votes: Votes,
    value: Callable[[Tensor, Sequence[Tensor]], Tensor],
    draws: int,
    *,
    silent: bool = False,
) -> Pursuit:
    target = task.target

    def reached(clips: Tensor, rows: Tensor) -> Tensor:
        """Wrong, and not called adversarial if `silent`, in every check."""
        labels = task.labels[rows].tolist()
        done = [True] * len(labels)
        for _ in range(CHECKS if target.randomised else 1):
            seeds = torch.randint(2**62, (len(labels),), generator=task.generator).tolist()
            answers = target.answer(_stored(clips), seeds)
            for k, (answer, label) in enumerate(zip(answers, labels, strict=True)):
                done[k] &= answer.label_id != label and not (silent and target.alarms(answer))
            if not any(done):
                break
        return torch.tensor(done, device=clips.device)

    return Pursuit(
        votes,
        value,
        task.labels,
        draws=draws if target.randomised else 1,
        generator=task.generator,
        reached=reached,
    )
