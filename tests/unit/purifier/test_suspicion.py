"""The suspicion score and its threshold."""

import pytest
import torch

from videopure.purifier.suspicion import calibrate_threshold, suspicion_score

pytestmark = pytest.mark.unit


def test_unmoved_probabilities_are_not_suspicious() -> None:
    bare = torch.tensor([0.7, 0.2, 0.1])
    assert suspicion_score(bare, bare.expand(4, 3)) == 0


def test_overturned_certainty_is_fully_suspicious() -> None:
    votes = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert suspicion_score(torch.tensor([1.0, 0.0, 0.0]), votes) == pytest.approx(1)


def test_score_is_the_mean_over_votes() -> None:
    votes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert suspicion_score(torch.tensor([1.0, 0.0]), votes) == pytest.approx(0.5)


def test_threshold_lets_at_most_the_stated_share_through() -> None:
    scores = torch.rand(200, generator=torch.Generator().manual_seed(0))
    threshold = calibrate_threshold(scores, 0.05)
    assert (scores > threshold).float().mean().item() <= 0.05
    assert (scores >= threshold).float().mean().item() >= 0.05


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_impossible_share_is_named(share: float) -> None:
    with pytest.raises(ValueError, match=f"false_alarms must lie between 0 and 1, got {share}"):
        calibrate_threshold(torch.rand(3), share)


def test_no_scores_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        calibrate_threshold(torch.zeros(0), 0.05)
