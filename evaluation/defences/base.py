"""Defences side by side behind one interface: purifiers, simple filters, and none at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videopure.evaluation.attacks.losses import Votes, bpda, counted, soft_vote
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.recognisers import Recogniser

__all__ = ["Cleaned", "Defence", "DefenceAnswer", "LastVotes", "OneCandidate", "Purified"]

# Checkpointing costs a third more time. One clip of 16 frames of 64x64 pixels keeps about 400 MB of
# activations with the demo's networks, which does not need it; anything larger is checkpointed.
CHECKPOINTED = 16 * 3 * 64 * 64
_BYTES_KEPT = 400_000_000 / CHECKPOINTED  # for each number of a clip


@dataclass(frozen=True)
class DefenceAnswer:
    """The answer of a defence to one clip.

    Args:
        label_id: the answered class.
        votes: the class that each counted vote named.
        timesteps: the train step of each vote; 0 is the final latents.
        suspicion: the suspicion score, if the defence has one.
    """

    label_id: int
    votes: tuple[int, ...] = ()
    timesteps: tuple[int, ...] = ()
    suspicion: float | None = None


class Defence(ABC):
    """A recogniser with something that protects it.

    Args:
        name: its name in tables.
        recogniser: the recogniser behind it.
        randomised: whether it is random, so that attacks must average over draws (EOT) and seeds
            matter.
        exact: whether `votes` has the true gradient; where it has no useful one (JPEG), use `bpda`.
    """

    def __init__(
        self, name: str, recogniser: Recogniser, *, randomised: bool, exact: bool = True
    ) -> None:
        self.name = name
        self.recogniser = recogniser
        self.randomised = randomised
        self.exact = exact

    def alarms(self, answer: DefenceAnswer) -> bool:
        """Whether an answer is called adversarial; never without a calibrated score."""
        return False

    @abstractmethod
    def candidates(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """The candidates to vote on: [V, T, 3, H, W] for each clip; differentiable if `exact`.

        Args:
            clips: [B, T, 3, H, W] in 0..1.
            seeds: one for each clip, for all random draws.
        """

    def votes(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """Logits of the votes on each clip, [V, classes], with the true gradient if `exact`."""
        return [self.recogniser.logits(shown) for shown in self.candidates(clips, seeds)]

    def bpda(self) -> Votes:
        """The same votes; their gradient treats the defence as the identity."""
        return bpda(self.candidates, self.recogniser.logits)

    def logits(self, clips: Tensor, seeds: Sequence[int]) -> Tensor:
        """The soft vote, [B, classes]."""
        return soft_vote(self.votes(clips, seeds))

    @torch.no_grad()
    def answer(self, clips: Tensor, seeds: Sequence[int]) -> list[DefenceAnswer]:
        """The answer to each of clips [B, T, 3, H, W] in 0..1."""
        ballots = self.votes(clips, seeds)
        winners = counted(ballots).tolist()
        return [
            DefenceAnswer(winner, tuple(ballot.argmax(dim=1).tolist()))
            for winner, ballot in zip(winners, ballots, strict=True)
        ]


def _fits(device: torch.device) -> float:
    """How many values of clips may keep their activations; those that fit a quarter of a GPU's
    memory.
    """
    if device.type != "cuda":
        return CHECKPOINTED
    return torch.cuda.get_device_properties(device).total_memory / 4 / _BYTES_KEPT


class LastVotes:
    """The votes on the most recent clips, shared by defences that count few of them."""

    def __init__(self, defended: DefendedRecogniser) -> None:
        self._defended = defended
        self._clips: Tensor | None = None
        self._votes: list[Tensor] = []

    @torch.no_grad()
    def __call__(self, clips: Tensor) -> list[Tensor]:
        """Logits of all votes on each clip, [V, classes]."""
        if clips is not self._clips:
            self._clips, self._votes = clips, self._defended.votes(clips)
        return self._votes


class Purified(Defence):
    """A `DefendedRecogniser` that answers exactly as it is served.

    Args:
        name: its name in tables.
        defended: recogniser, purifier and settings.
    """

    def __init__(self, name: str, defended: DefendedRecogniser) -> None:
        super().__init__(name, defended.recogniser, randomised=defended.settings.randomised)
        self.defended = defended

    def alarms(self, answer: DefenceAnswer) -> bool:
        """See `Defence.alarms`."""
        threshold = self.defended.settings.suspicion_threshold
        return threshold is not None and (answer.suspicion or 0.0) > threshold

    def candidates(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """See `Defence.candidates`."""
        return self.defended.candidates(clips, seeds)

    def votes(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """See `Defence.votes`; networks are checkpointed where the gradient may not fit memory."""
        self.defended.pipeline.gradient_checkpointing = clips.numel() > _fits(clips.device)
        return self.defended.votes(clips, seeds)

    def answer(self, clips: Tensor, seeds: Sequence[int]) -> list[DefenceAnswer]:
        """See `Defence.answer`."""
        return self.answer_and_show(clips, seeds, shown=False)[0]

    @torch.no_grad()
    def answer_and_show(
        self, clips: Tensor, seeds: Sequence[int], *, shown: bool = True
    ) -> tuple[list[DefenceAnswer], list[Tensor]]:
        """The answers, and if `shown` the purified clips [T, 3, H, W] in 0..1."""
        verdicts = self.defended.answer(clips, seeds=seeds, keep_purified=shown).verdicts
        answers = [
            DefenceAnswer(
                verdict.label_id,
                tuple(vote.label_id for vote in verdict.votes),
                tuple(vote.timestep for vote in verdict.votes),
                verdict.suspicion,
            )
            for verdict in verdicts
        ]
        return answers, [v.purified.to(clips) for v in verdicts if v.purified is not None]


class OneCandidate(Purified):
    """A `DefendedRecogniser` without the vote: only one of its candidates answers.

    Args:
        name: its name in tables.
        defended: recogniser, purifier and settings, which must not be random.
        position: index of the candidate, as in a list: 0 is the first, -1 the last.
        last_votes: shared with defences that use other candidates of the same clips.
    """

    def __init__(
        self, name: str, defended: DefendedRecogniser, position: int, last_votes: LastVotes
    ) -> None:
        super().__init__(name, defended)
        if self.randomised:
            raise ValueError(f"{name} needs a purifier that is not random")
        self._position = position
        self._last_votes = last_votes

    def candidates(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """See `Defence.candidates`."""
        return [shown[self._position][None] for shown in super().candidates(clips, seeds)]

    def votes(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """See `Defence.votes`."""
        return [ballot[self._position][None] for ballot in super().votes(clips, seeds)]

    @torch.no_grad()
    def answer(self, clips: Tensor, seeds: Sequence[int]) -> list[DefenceAnswer]:
        """See `Defence.answer`."""
        labels = [int(ballot[self._position].argmax()) for ballot in self._last_votes(clips)]
        return [DefenceAnswer(label, (label,)) for label in labels]


class Cleaned(Defence):
    """A recogniser that sees clips after a change to their pixels.

    Args:
        name: its name in tables.
        recogniser: the recogniser behind it.
        clean: clips [B, T, 3, H, W] and their seeds -> the same, or [B, V, T, 3, H, W] for V
            votes; None for no defence.
        randomised: whether `clean` uses the seeds.
        exact: whether `clean` is differentiable.
    """

    def __init__(
        self,
        name: str,
        recogniser: Recogniser,
        clean: Callable[[Tensor, Sequence[int]], Tensor] | None = None,
        *,
        randomised: bool = False,
        exact: bool = True,
    ) -> None:
        super().__init__(name, recogniser, randomised=randomised, exact=exact)
        self._clean = clean

    def candidates(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """See `Defence.candidates`."""
        cleaned = clips if self._clean is None else self._clean(clips, seeds)
        return list(cleaned if cleaned.ndim == 6 else cleaned[:, None])

    def votes(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """See `Defence.votes`; the clips go through the recogniser together."""
        shown = torch.stack(list(self.candidates(clips, seeds)))  # [B, V, T, 3, H, W]
        return list(self.recogniser.logits(shown.flatten(0, 1)).unflatten(0, shown.shape[:2]))
