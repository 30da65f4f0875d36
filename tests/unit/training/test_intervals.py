"""What a number of clean clips tells of false alarms."""

import pytest
import torch

from videopure.training.calibrate import Threshold
from videopure.training.intervals import false_alarm_interval

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("above", "clips", "low", "high"),
    [
        # Beta(1, 50) has the distribution function 1 - (1 - x) ** 50.
        (0, 50, 1 - 0.975 ** (1 / 50), 1 - 0.025 ** (1 / 50)),
        (1, 3, 0.09430, 0.90570),  # Beta(2, 2): 3 x**2 - 2 x**3
        (1, 4, 0.06759, 0.80588),  # qbeta(c(.025, .975), 2, 3) of R
    ],
)
def test_intervals_are_those_of_the_beta_distribution(
    above: int, clips: int, low: float, high: float
) -> None:
    assert false_alarm_interval(above, clips) == pytest.approx((low, high), abs=2e-5)


def test_fresh_clips_raise_as_many_alarms_as_the_interval_says() -> None:
    """Scores are uniform: the true share of false alarms is what is left above the threshold."""
    generator = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(400):
        found = Threshold.of(torch.rand(60, generator=generator), 0.05)
        inside += found.low <= 1 - found.value <= found.high
    assert 370 <= inside <= 392  # 380 are expected; four standard deviations are 17


def test_fifty_clips_are_little_for_one_percent() -> None:
    found = Threshold.of(torch.linspace(0, 0.49, 50), 0.01)
    assert found.value == pytest.approx(0.49, abs=2e-6)
    assert not found.reachable
    assert found.expected == pytest.approx(1 / 51)
    assert found.clips_needed == 99
    assert Threshold.of(torch.linspace(0, 0.98, 99), 0.01).reachable


def test_no_clean_clip_of_the_lowest_scores_is_above_what_is_written() -> None:
    scores = torch.full((20,), 1 / 3)
    assert not bool((scores > Threshold.of(scores, 0.1).value).any())
