"""The vote of the recogniser over the purified candidates of a clip.

Every candidate casts its predicted label; the most frequent one wins, the lowest class index on a
tie (arXiv 2501.14999, the section on multi-step voting).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["count_votes", "is_decided", "majority"]


def count_votes(labels: Tensor, num_classes: int) -> Tensor:
    """Votes for each class: labels [B, K] integers -> [B, num_classes] integers."""
    return F.one_hot(labels, num_classes).sum(dim=1)


def majority(counts: Tensor) -> Tensor:
    """Winner of each clip: counts [B, num_classes] -> class index [B], lowest index on a tie."""
    return counts.argmax(dim=1)  # torch returns the first of equal maxima


def is_decided(counts: Tensor, remaining: int) -> Tensor:
    """Whether `remaining` votes still to come can no longer change the winner.

    Args:
        counts: votes so far, [B, num_classes].
        remaining: votes each clip has still to cast.

    Returns:
        [B] booleans.
    """
    leader = majority(counts)[:, None]
    most = counts.gather(1, leader)
    classes = torch.arange(counts.shape[1], device=counts.device)
    # A rival that takes all remaining votes wins by a higher count, or by a lower index on a tie.
    could_win = counts + remaining + (classes < leader).to(counts.dtype) > most
    return ~(could_win & (classes != leader)).any(dim=1)
