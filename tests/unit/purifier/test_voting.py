"""The early-decided vote always gives the label of the full vote."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videopure.purifier.voting import count_votes, is_decided, majority

pytestmark = pytest.mark.unit

ballots = st.integers(2, 6).flatmap(
    lambda classes: st.tuples(
        st.just(classes), st.lists(st.integers(0, classes - 1), min_size=1, max_size=9)
    )
)


def reference_winner(labels: list[int]) -> int:
    """Most frequent label, lowest index on a tie, written without tensors."""
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


@given(ballots)
def test_majority_is_the_most_frequent_label_with_ties_to_the_lowest(
    ballot: tuple[int, list[int]],
) -> None:
    classes, labels = ballot
    counts = count_votes(torch.tensor([labels]), classes)
    assert majority(counts).tolist() == [reference_winner(labels)]


@given(ballots)
def test_a_decided_vote_has_the_label_of_the_full_vote(ballot: tuple[int, list[int]]) -> None:
    classes, labels = ballot
    for counted in range(1, len(labels) + 1):
        counts = count_votes(torch.tensor([labels[:counted]]), classes)
        if is_decided(counts, len(labels) - counted).item():
            assert majority(counts).item() == reference_winner(labels)


@given(ballots, st.integers(0, 5))
def test_a_vote_is_decided_exactly_when_no_rival_can_win(
    ballot: tuple[int, list[int]], remaining: int
) -> None:
    classes, labels = ballot
    leader = reference_winner(labels)
    # The best a rival can do is to take every remaining vote.
    outcomes = {reference_winner(labels + [rival] * remaining) for rival in range(classes)}
    counts = count_votes(torch.tensor([labels]), classes)
    assert is_decided(counts, remaining).item() == (outcomes == {leader})


def test_clips_of_a_batch_are_decided_each_for_itself() -> None:
    counts = count_votes(torch.tensor([[1, 1, 1, 1], [0, 0, 2, 2]]), 3)
    assert is_decided(counts, 3).tolist() == [True, False]
