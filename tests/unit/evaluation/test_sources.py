"""Intervals over recordings, whose clips fail and hold together."""

import pytest

from videopure.evaluation.metrics import wilson_interval
from videopure.evaluation.sources import grouped_auc, grouped_interval, rows_of, suspicion_rows

pytestmark = pytest.mark.unit


def test_clips_of_their_own_have_the_interval_of_a_share() -> None:
    right = [k % 5 != 0 for k in range(200)]
    low, high = grouped_interval(right, [str(k) for k in range(200)])
    assert (low, high) == pytest.approx(wilson_interval(160, 200), abs=0.015)


def test_clips_that_hold_together_tell_as_much_as_their_recordings() -> None:
    # Twenty recordings of ten clips, right or wrong as a whole.
    right = [k // 10 % 5 != 0 for k in range(200)]
    low, high = grouped_interval(right, [str(k // 10) for k in range(200)])
    assert (low, high) == pytest.approx((0.6, 0.95), abs=0.06)


def test_a_worst_case_is_of_clips_that_hold_under_every_threat() -> None:
    answers = [
        {"threat": threat, "defence": "none", "epsilon": epsilon, "name": name, "right": right}
        for threat, epsilon, name, right in (
            ("clean", "0", "a/one.mp4", "1"),
            ("clean", "0", "a/two.mp4", "1"),
            ("PGD 4/255", "4", "a/one.mp4", "1"),
            ("PGD 4/255", "4", "a/two.mp4", "0"),
            ("APGD 4/255", "4", "a/one.mp4", "0"),
            ("APGD 4/255", "4", "a/two.mp4", "1"),
        )
    ]
    lines = rows_of(answers, {"one": "7", "two": "7"})
    assert "| worst case 4/255 | none | 2 | 1 | 0% | 0% to 0% |" in lines
    assert "| clean | none | 2 | 1 | 100% | 100% to 100% |" in lines


def test_a_clip_without_a_group_is_refused() -> None:
    with pytest.raises(ValueError, match="a group for each clip, got 2 and 1"):
        grouped_interval([True, False], ["a"])


def test_an_auc_counts_pairs_and_half_of_the_ties() -> None:
    # Of four pairs three are above, and one is a tie.
    value, low, high = grouped_auc([0.0, 1.0], [1.0, 2.0], ["a", "b"], ["c", "d"])
    assert value == 3.5 / 4
    assert 0.5 <= low <= value <= high == 1


def test_clips_that_are_copies_make_an_auc_no_surer() -> None:
    negative, positive = [0.1, 0.5, 0.3, 0.7, 0.2], [0.4, 0.9, 0.6, 0.25, 0.8]
    groups, others = list("abcde"), list("vwxyz")
    once = grouped_auc(negative, positive, groups, others)
    nine = grouped_auc(negative * 9, positive * 9, groups * 9, others * 9)
    assert nine == pytest.approx(once)
    alone = [f"{name}{copy}" for copy in range(9) for name in others]
    surer = grouped_auc(negative * 9, positive * 9, [name + "0" for name in alone], alone)
    assert surer[2] - surer[1] < 0.6 * (once[2] - once[1])


def test_scores_of_one_kind_alone_have_no_auc() -> None:
    with pytest.raises(ValueError, match="scores of both kinds, got 1 and 0"):
        grouped_auc([0.5], [], ["a"], [])


def test_suspicion_of_attacked_clips_is_held_against_that_of_clean_ones() -> None:
    answers = [
        {"threat": threat, "defence": "VideoPure", "name": f"{name}.mp4", "suspicion": score}
        for threat, name, score in (
            *(("clean", "one", "0.1"), ("clean", "two", "0.2")),
            *(("PGD 4/255", "one", "0.3"), ("PGD 4/255", "two", "0.4")),
        )
    ]
    answers.append({**answers[0], "defence": "none", "suspicion": ""})
    assert suspicion_rows(answers, {})[2:] == [
        "| VideoPure | PGD 4/255 | 2 | 1.00 | 1.00 to 1.00 |"
    ]
    assert suspicion_rows(answers[:2], {}) == []
