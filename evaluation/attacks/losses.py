"""The losses that attacks raise, through any defence and any randomness.

A `Loss` takes clips [B, T, 3, H, W] in 0..1 and returns one number for each, [B], differentiable.
Infinity means that a clip is done: attacks leave it unchanged, and stop when all are done (see
`EOTLoss` in `eot.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log

import torch
from torch import Tensor
from torch.nn import functional as F

from videopure.purifier.voting import count_votes, majority

__all__ = [
    "Loss",
    "LossKind",
    "Votes",
    "bpda",
    "counted",
    "cross_entropy",
    "evasion",
    "gradient",
    "label_loss",
    "lead",
    "margin",
    "soft_vote",
]

Loss = Callable[[Tensor], Tensor]
# Logits [B, classes] and true classes [B] -> [B].
LossKind = Callable[[Tensor, Tensor], Tensor]
# Clips and their seeds -> for each clip the logits of its votes, [V, classes].
Votes = Callable[[Tensor, Sequence[int]], Sequence[Tensor]]


def soft_vote(votes: Sequence[Tensor]) -> Tensor:
    """Log of the votes' mean probabilities: logits [V, classes] of each clip -> [B, classes].

    The hard vote counts labels and has no gradient. Votes that are already lost hardly contribute
    to the mean probability, so the gradient works on those still to be turned.
    """
    means = [ballot.log_softmax(dim=1).logsumexp(dim=0) - log(len(ballot)) for ballot in votes]
    return torch.stack(means)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy [B] of logits [B, classes] with the true classes [B]."""
    return F.cross_entropy(logits, labels, reduction="none")


def label_loss(
    logits: Callable[[Tensor], Tensor],
    labels: Tensor,
    kind: LossKind = cross_entropy,
) -> Loss:
    """The `kind` of loss of a model, clips -> logits [B, classes], with the true classes [B]."""
    return lambda clips: kind(logits(clips), labels)


def lead(logits: Tensor, labels: Tensor) -> Tensor:
    """How far the true class leads, [B]; negative where the clip is misclassified."""
    true = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return (true - others.max(dim=1, keepdim=True).values).flatten()


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin loss [B] (Carlini and Wagner, arXiv 1608.04644): how far the true class trails.

    Unlike cross-entropy it does not vanish where the model is confident.
    """
    return -lead(logits, labels)


def evasion(
    bare: Tensor, votes: Sequence[Tensor], labels: Tensor, *, confidence: float = 1.0
) -> Tensor:
    """A wrong label first, then a low suspicion, [B].

    While the true class trails in the soft vote by less than `confidence` (in log probability), the
    margin counts; beyond it only the suspicion does, the mean total variation distance between the
    bare answer and the votes (`videopure.purifier.suspicion`).

    Args:
        bare: the bare recogniser's logits, [B, classes].
        votes: logits of the votes of each clip, [V, classes].
        labels: true classes, [B].
        confidence: the lead that is enough for a wrong class.
    """
    missing = F.relu(lead(soft_vote(votes), labels) + confidence)
    pairs = zip(bare.softmax(1), votes, strict=True)
    suspicion = torch.stack([(v.softmax(1) - b).abs().sum(1).div(2).mean() for b, v in pairs])
    return -missing - suspicion


def counted(votes: Sequence[Tensor]) -> Tensor:
    """The classes [B] that win the votes, logits [V, classes] of each clip."""
    counts = [count_votes(b.argmax(dim=1)[None], b.shape[1]) for b in votes]
    return majority(torch.cat(counts))


def bpda(
    candidates: Callable[[Tensor, Sequence[int]], Sequence[Tensor]],
    logits: Callable[[Tensor], Tensor],
) -> Votes:
    """Votes whose gradient treats the purifier as the identity (BPDA, arXiv 1802.00420).

    Args:
        candidates: clips and seeds -> the purified candidates of each clip, [V, T, 3, H, W].
        logits: the recogniser, [V, T, 3, H, W] -> [V, classes].
    """

    def votes(clips: Tensor, seeds: Sequence[int]) -> list[Tensor]:
        with torch.no_grad():
            purified = candidates(clips, seeds)
        # The value of the candidate with the gradient of the clip.
        return [
            logits(clip + (shown - clip).detach())
            for clip, shown in zip(clips, purified, strict=True)
        ]

    return votes


def gradient(loss: Loss, clips: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each clip [B] and its gradient, like `clips`."""
    clips = clips.detach().requires_grad_()
    with torch.enable_grad():
        values = loss(clips)
        (grad,) = torch.autograd.grad(values.sum(), clips)
    return values.detach(), grad
