"""Intervals over recordings, whose clips fail and hold together."""

import pytest

from videopure.evaluation.metrics import wilson_interval
from videopure.evaluation.sources import grouped_interval, rows_of

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
