"""Defences side by side behind one interface: purifiers, simple filters, and none at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videopure.evaluation.losses import Votes, bpda, soft_vote
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.recognisers import Recogniser
from videopure.purifier.voting import count_votes, majority

__all__ = ["Answer", "Cleaned", "Defence", "Purified"]


@dataclass(frozen=True)
class Answer:
    """What a defence says to one clip.

    Args:
        label_id: the answered class.
        votes: the class that each counted vote named.
        timesteps: the train step of each vote; 0 is the final latents.
        suspicion: where the defence has such a score.
    """

    label_id: int
    votes: tuple[int, ...] = ()
    timesteps: tuple[int, ...] = ()
    suspicion: float | None = None


class Defence(ABC):
    """A recogniser behind something that is to protect it.

    Args:
        name: what tables call it.
        recogniser: the recogniser behind it.
        randomised: whether it draws, so that attacks must average over draws (EOT) and seeds
            matter.
        exact: whether `votes` has the true gradient; where it has none of use (JPEG), `bpda` does.
    """

    def __init__(
        self, name: str, recogniser: Recogniser, *, randomised: bool, exact: bool = True
    ) -> None:
        self.name = name
        self.recogniser = recogniser
        self.randomised = randomised
        self.exact = exact

    @abstractmethod
    def candidates(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """What the recogniser votes on: [V, T, 3, H, W] for each clip; differentiable if `exact`.

        Args:
            clips: [B, T, 3, H, W] in 0..1.
            seeds: one for each clip, of all that is drawn.
        """

    def votes(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """Logits of the votes on each clip, [V, classes], with the true gradient if `exact`."""
        return [self.recogniser.logits(shown) for shown in self.candidates(clips, seeds)]

    def bpda(self) -> Votes:
        """The same votes; their gradient takes the defence for the identity."""
        return bpda(self.candidates, self.recogniser.logits)

    def logits(self, clips: Tensor, seeds: Sequence[int]) -> Tensor:
        """The soft vote, [B, classes]."""
        return soft_vote(self.votes(clips, seeds))

    @torch.no_grad()
    def answer(self, clips: Tensor, seeds: Sequence[int]) -> list[Answer]:
        """The answer to each of clips [B, T, 3, H, W] in 0..1."""
        answers = []
        for ballot in self.votes(clips, seeds):
            labels = ballot.argmax(dim=1)
            winner = int(majority(count_votes(labels[None], ballot.shape[1])))
            answers.append(Answer(winner, tuple(labels.tolist())))
        return answers


class Purified(Defence):
    """A `DefendedRecogniser`, answering exactly as it is served.

    Args:
        name: what tables call it.
        defended: recogniser, purifier and settings.
        last_only: without the vote: the last candidate alone answers.
    """

    def __init__(self, name: str, defended: DefendedRecogniser, *, last_only: bool = False) -> None:
        settings = defended.settings
        randomised = settings.method in ("ddim", "ddpm") or settings.draws.active
        super().__init__(name, defended.recogniser, randomised=randomised)
        self.defended = defended
        self.last_only = last_only

    def candidates(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """See `Defence.candidates`."""
        shown = self.defended.candidates(clips, seeds)
        return [candidates[-1:] for candidates in shown] if self.last_only else shown

    def votes(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
        """See `Defence.votes`; networks are checkpointed, so that the gradient fits memory."""
        self.defended.pipeline.gradient_checkpointing = True
        votes = self.defended.votes(clips, seeds)
        return [ballot[-1:] for ballot in votes] if self.last_only else votes

    @torch.no_grad()
    def answer(self, clips: Tensor, seeds: Sequence[int]) -> list[Answer]:
        """See `Defence.answer`."""
        if self.last_only:
            return super().answer(clips, seeds)
        return [
            Answer(
                verdict.label_id,
                tuple(vote.label_id for vote in verdict.votes),
                tuple(vote.timestep for vote in verdict.votes),
                verdict.suspicion,
            )
            for verdict in self.defended.answer(clips, seeds=seeds).verdicts
        ]


class Cleaned(Defence):
    """A recogniser that sees clips after something was done to their pixels.

    Args:
        name: what tables call it.
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
