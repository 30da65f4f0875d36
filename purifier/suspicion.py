"""How suspicious a clip is of being adversarial, from what purification computes anyway.

Purification hardly changes the answer on a clean clip and overturns it on an attacked one.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["calibrate_threshold", "suspicion_score"]


def suspicion_score(undefended: Tensor, votes: Tensor) -> float:
    """Mean total variation distance between the bare answer and the votes, in 0..1.

    0: every candidate gets exactly the probabilities of the clip as sent; 1: no vote shares any
    probability mass with the bare recogniser's answer.

    Args:
        undefended: the bare recogniser's probabilities, [classes].
        votes: probabilities of the counted votes, [V, classes], V at least 1.
    """
    return float((votes - undefended).abs().sum(dim=1).div(2).mean())


def calibrate_threshold(clean_scores: Tensor, false_alarms: float) -> float:
    """The score that a share `false_alarms` of clean clips exceeds.

    Args:
        clean_scores: suspicion of clean clips, [N].
        false_alarms: the share of false alarms to allow, strictly between 0 and 1.
    """
    if not 0 < false_alarms < 1:
        raise ValueError(f"false_alarms must lie between 0 and 1, got {false_alarms}")
    if clean_scores.numel() < 1:
        raise ValueError("clean_scores must hold at least one score, got none")
    return float(torch.quantile(clean_scores.double(), 1 - false_alarms, interpolation="higher"))
