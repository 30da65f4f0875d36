"""The votes of the candidates, and the verdict on a clip that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from videopure.purifier.suspicion import suspicion_score
from videopure.purifier.voting import count_votes, is_decided, majority

__all__ = ["Ballot", "Verdict", "Vote", "bare_verdict"]


@dataclass(frozen=True)
class Vote:
    """One candidate's label and its probability; `timestep` is 0 for the final latents."""

    timestep: int
    label_id: int
    score: float


@dataclass(frozen=True, eq=False)
class Verdict:
    """The answer for one clip.

    Args:
        label_id: the voted label.
        probabilities: [classes], float32 on the CPU: mean over the counted votes; the bare
            recogniser's where the clip was not purified.
        votes: those counted, in order; none if the clip was not purified.
        of: number of votes in a full count.
        agreement: share of the counted votes for `label_id`.
        undefended: [classes], probabilities of the bare recogniser on the clip as sent.
        suspicion: see `suspicion_score`; None if the clip was not purified.
        purified: the last candidate, [T, 3, H, W] in 0..1 on the CPU, if requested.
        change: root mean square difference of the first candidate from the clip, in 0..1. It is
            large if the purifier was not trained on such clips. None if not purified.
    """

    label_id: int
    probabilities: Tensor
    votes: tuple[Vote, ...]
    of: int
    agreement: float
    undefended: Tensor
    suspicion: float | None
    purified: Tensor | None = None
    change: float | None = None


class Ballot:
    """Votes cast so far for a batch of clips."""

    def __init__(self, clips: int, num_classes: int, of: int, device: torch.device) -> None:
        self.of = of
        self.everyone = torch.arange(clips, device=device)
        self._counts = torch.zeros(clips, num_classes, dtype=torch.long, device=device)
        self._rounds: list[tuple[int, Tensor, Tensor]] = []

    def undecided(self) -> Tensor:
        """Indices of the clips whose label the remaining votes can still change."""
        remaining = self.of - len(self._rounds)
        return self.everyone[~is_decided(self._counts, remaining)]

    def cast(self, timestep: int, voters: Tensor, probabilities: Tensor) -> None:
        """Count one vote for each clip in `voters`, given probabilities [V, classes]."""
        labels = probabilities.argmax(dim=1, keepdim=True)
        self._counts[voters] += count_votes(labels, self._counts.shape[1])
        self._rounds.append((timestep, voters, probabilities))

    def verdicts(self, undefended: Tensor) -> list[Verdict]:
        """The answer for each clip, given the bare recogniser's probabilities [B, classes]."""
        winners = majority(self._counts).tolist()
        rounds = [(t, voters.tolist(), p.cpu()) for t, voters, p in self._rounds]
        result = []
        for clip, bare in enumerate(undefended.cpu()):
            cast = [(t, p[voters.index(clip)]) for t, voters, p in rounds if clip in voters]
            probabilities = torch.stack([p for _, p in cast])
            votes = tuple(Vote(t, int(p.argmax()), float(p.max())) for t, p in cast)
            agreeing = sum(vote.label_id == winners[clip] for vote in votes)
            result.append(
                Verdict(
                    label_id=winners[clip],
                    probabilities=probabilities.mean(dim=0),
                    votes=votes,
                    of=self.of,
                    agreement=agreeing / len(votes),
                    undefended=bare,
                    suspicion=suspicion_score(bare, probabilities),
                )
            )
        return result


def bare_verdict(probabilities: Tensor) -> Verdict:
    """The verdict on a clip that was not purified, from its probabilities [classes]."""
    return Verdict(int(probabilities.argmax()), probabilities, (), 0, 1.0, probabilities, None)
