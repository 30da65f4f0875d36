"""Measures, on data whose figures are known."""

import math

import pytest
import torch

from videopure.evaluation.metrics import (
    auc,
    mcnemar,
    psnr,
    roc,
    ssim,
    true_alarms,
    warping_error,
    wilson_interval,
)

pytestmark = pytest.mark.unit


def test_wilson_interval_of_known_shares() -> None:
    # Textbook values of the interval without continuity correction.
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson_interval(3, 2)


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (6, 0, 2 / 64), (8, 2, 2 * 56 / 1024)],
)
def test_mcnemar_is_the_exact_binomial_test(ours: int, theirs: int, p: float) -> None:
    first = [True] * ours + [False] * theirs + [True, False]
    second = [False] * ours + [True] * theirs + [True, False]
    assert mcnemar(first, second) == (ours, theirs, pytest.approx(p))
    with pytest.raises(ValueError, match="same clips, got 1 and 2"):
        mcnemar([True], [True, False])


def test_auc_counts_ties_by_halves() -> None:
    assert auc(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])) == 1
    assert auc(torch.tensor([0.0, 1.0]), torch.tensor([1.0])) == 0.75
    assert auc(torch.tensor([1.0]), torch.tensor([0.0])) == 0


def test_the_area_under_the_roc_curve_is_the_auc() -> None:
    generator = torch.Generator().manual_seed(0)
    negative = torch.randint(10, (40,), generator=generator).double()
    positive = torch.randint(3, 14, (30,), generator=generator).double()
    false, true = roc(negative, positive)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    area = torch.trapezoid(torch.tensor(true), torch.tensor(false)).item()
    assert area == pytest.approx(auc(negative, positive), abs=1e-5)


def test_true_alarms_at_a_false_alarm_rate() -> None:
    negative = torch.arange(100).double()
    positive = torch.tensor([97.5, 98.5, 99.5, 50.0])
    assert true_alarms(negative, positive, 0.01) == 0.5  # threshold 98: 99 alone exceeds it
    assert true_alarms(negative, positive, 0.05) == 0.75
    assert true_alarms(negative[:10], positive, 0.01) == 1.0


def test_psnr_of_a_known_difference() -> None:
    clip = torch.full((2, 3, 12, 12), 0.5)
    assert psnr(clip, clip + 0.1) == pytest.approx(20, abs=1e-4)
    assert psnr(clip, clip) == math.inf


def test_ssim_of_flat_clips_is_that_of_their_means() -> None:
    one, two = torch.full((2, 3, 12, 12), 0.4), torch.full((2, 3, 12, 12), 0.6)
    expected = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)
    assert ssim(one, two) == pytest.approx(expected, abs=1e-6)
    noise = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert ssim(noise, noise) == pytest.approx(1)
    assert ssim(noise, 1 - noise) < -0.8
    with pytest.raises(ValueError, match=r"at least 11x11 pixels, got \[10, 12\]"):
        ssim(one[..., :10, :], two[..., :10, :])


def test_warping_error_is_zero_for_motion_along_the_flow() -> None:
    base = torch.rand(3, 8, 20, generator=torch.Generator().manual_seed(0))
    clip = torch.stack([base.roll(2 * k, 2) for k in range(4)])
    flow = torch.zeros(3, 2, 8, 20)
    flow[:, 0] = 2.0
    assert warping_error(clip, flow) == pytest.approx(0, abs=1e-6)
    assert warping_error(clip, torch.zeros_like(flow)) > 0.1
    flicker = clip + torch.tensor([0.0, 0.1, 0.0, 0.1])[:, None, None, None]
    assert warping_error(flicker, flow) == pytest.approx(0.1, abs=1e-5)
