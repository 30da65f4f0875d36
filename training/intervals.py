"""Confidence intervals for false alarms, from a number of clean clips."""

from __future__ import annotations

import math

__all__ = ["false_alarm_interval"]


def false_alarm_interval(above: int, clips: int) -> tuple[float, float]:
    """Where the share of false alarms lies with 95 % confidence, in 0..1.

    The threshold is one of `clips` clean scores, and `above` of them exceed it. Whatever their
    distribution, the share of further ones that do is distributed as Beta(above + 1, clips -
    above), which depends on ranks alone (S. S. Wilks, 1941).

    Args:
        above: number of scores above the threshold.
        clips: number of scores.
    """
    if not 0 <= above < clips:
        raise ValueError(f"above must be in 0..{clips - 1}, got {above}")
    return _share_with(0.975, above, clips), _share_with(0.025, above, clips)


def _share_with(tail: float, above: int, clips: int) -> float:
    """The share of alarms at which at most `above` clips exceed the threshold with this chance."""
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        if _at_most(above, clips, share) > tail:
            low = share
        else:
            high = share
    return (low + high) / 2


def _at_most(hits: int, count: int, share: float) -> float:
    """Probability of at most this many hits (binomial distribution)."""
    if not 0 < share < 1:
        return float(share <= 0)
    return sum(
        math.exp(
            math.lgamma(count + 1)
            - math.lgamma(k + 1)
            - math.lgamma(count - k + 1)
            + k * math.log(share)
            + (count - k) * math.log1p(-share)
        )
        for k in range(hits + 1)
    )
