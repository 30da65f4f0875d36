"""Votes that are cast, and the verdicts that come of them."""

import pytest
import torch

from videopure.purifier.ballot import Ballot

pytestmark = pytest.mark.unit


def test_agreement_is_the_share_of_votes_for_the_winner() -> None:
    """Whichever vote came first."""
    ballot = Ballot(clips=2, num_classes=3, of=3, device=torch.device("cpu"))
    first, second = torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.7])
    ballot.cast(21, ballot.everyone, torch.stack([first, second]))
    ballot.cast(1, ballot.everyone, torch.stack([second, second]))
    assert ballot.undecided().tolist() == [0]
    ballot.cast(0, ballot.undecided(), second[None])
    one, two = ballot.verdicts(undefended=torch.stack([first, second]))
    assert (one.label_id, len(one.votes), one.of) == (2, 3, 3)
    assert one.agreement == pytest.approx(2 / 3)
    assert [vote.timestep for vote in one.votes] == [21, 1, 0]
    torch.testing.assert_close(one.probabilities, (first + 2 * second) / 3)
    assert (two.label_id, len(two.votes), two.of, two.agreement) == (2, 2, 3, 1.0)
    assert two.suspicion == pytest.approx(0)
