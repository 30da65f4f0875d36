"""The verdict of an evaluation: right sentences of numbers that are counted by hand."""

from typing import Any

import pytest

from videopure.evaluation.report.compact import compact
from videopure.evaluation.report.headline import headline
from videopure.evaluation.report.tables import Table
from videopure.evaluation.report.verdict import short_table, verdict

pytestmark = pytest.mark.unit


def share(right: int, clips: int) -> dict[str, float]:
    return {"share": right / clips, "low": 0.0, "high": 1.0, "right": right, "clips": clips}


@pytest.fixture
def summary() -> dict[str, Any]:
    def threat(knowledge: str, epsilon: int) -> dict[str, Any]:
        return {"family": "f", "knowledge": knowledge, "epsilon": epsilon}

    return {
        "threats": {
            "clean": threat("clean", 0),
            "PGD-10 4/255": threat("gray-box", 4),
            "Square 4/255": threat("black-box", 4),
            "exact-20 4/255": threat("adaptive", 4),
            "exact-20 255/255": threat("adaptive", 255),
        },
        "accuracy": {
            "none": {"clean": share(20, 20), "PGD-10 4/255": share(0, 20)},
            "VideoPure": {
                "clean": share(19, 20),
                "PGD-10 4/255": share(18, 20),
                "Square 4/255": share(17, 20),
                "exact-20 4/255": share(1, 10),
                "exact-20 255/255": share(0, 10),
            },
        },
        "suspicion": {"VideoPure": {"exact-20 4/255": {"fooled_and_silent": share(3, 10)}}},
        "missing": {},
        "seconds": {"none": 0.02, "VideoPure": 0.5},
        "attack_seconds": {
            "PGD-10 4/255": {"recogniser": 0.1},
            "exact-20 4/255": {"VideoPure": 12.0},
        },
    }


def test_the_strongest_attack_of_each_kind_is_said(summary: dict[str, Any]) -> None:
    assert verdict(summary) == [
        "VideoPure recognises 19 of 20 clean clips, the bare recogniser 20 of 20.",
        "Against an attacker who knows the recogniser and not the purifier, at 4/255: "
        "17 of 20 clips are recognised (Square 4/255).",
        "Against an attacker who has the archive, at 4/255: 1 of 10 clips are recognised "
        "(exact-20 4/255), 3 wrong without an alarm.",
    ]


def test_what_was_not_asked_is_said(summary: dict[str, Any]) -> None:
    for threat in ("exact-20 4/255", "exact-20 255/255"):
        del summary["accuracy"]["VideoPure"][threat]
    summary["missing"] = {"VideoPure": 3}
    *_, unknown, unfinished = verdict(summary)
    assert unknown.startswith("No attack here knows VideoPure")
    assert unfinished.startswith("The suite is not finished")


def test_the_short_table_has_the_deciding_column_first(summary: dict[str, Any]) -> None:
    table = short_table(summary)
    assert table.columns == (
        "defence", "has the archive 4/255", "knows the recogniser 4/255", "no attack",
    )  # fmt: skip
    assert table.rows == (("none", "", "0", "100"), ("VideoPure", "10", "85", "95"))


def test_an_empty_evaluation_has_a_verdict_too() -> None:
    empty: dict[str, Any] = {"threats": {}, "accuracy": {}, "suspicion": {}, "missing": {"a": 1}}
    assert verdict(empty) == ["The suite is not finished: these figures cover the answers so far."]
    assert short_table(empty).rows == ()


def test_three_sentences_say_who_gets_through_at_what_cost_and_what_holds(
    summary: dict[str, Any],
) -> None:
    assert headline(summary, "VideoPure") == [
        "An attacker who has the archive gets through at 4/255, where exact-20 leaves 1 of 10 "
        "clips.",
        "exact-20 4/255 takes 12.00 s for a clip, and 3 of 10 clips are answered wrongly without "
        "an alarm; VideoPure takes 0.50 s for a clip, the recogniser alone 0.02 s.",
        "What holds: 19 of 20 clean clips and 17 of 20 under Square 4/255 of an attacker who knows "
        "the recogniser and not the purifier.",
    ]


def test_an_attacker_who_fools_some_clips_is_not_called_harmless(summary: dict[str, Any]) -> None:
    summary["accuracy"]["VideoPure"]["exact-20 4/255"] = share(7, 10)
    who, cost, holds = headline(summary, "VideoPure")
    assert who == (
        "The strongest attack tried, exact-20 4/255 by an attacker who has the archive, "
        "fools 3 of 10 clips."
    )
    assert cost.startswith("exact-20 4/255 takes 12.00 s")
    assert holds.endswith("and 7 of 10 under exact-20 4/255 of an attacker who has the archive.")


def test_where_nobody_fools_a_clip_the_budget_is_said(summary: dict[str, Any]) -> None:
    row = summary["accuracy"]["VideoPure"]
    row |= {threat: share(10, 10) for threat in row}
    who, cost, _ = headline(summary, "VideoPure")
    assert who == "No attacker that was tried fools a clip, at up to 4/255."
    assert cost.startswith("exact-20 4/255 takes 12.00 s")


def test_an_attacker_who_was_not_tried_is_named(summary: dict[str, Any]) -> None:
    for threat in ("exact-20 4/255", "exact-20 255/255"):
        del summary["accuracy"]["VideoPure"][threat]
    who, _, _ = headline(summary, "VideoPure")
    assert who.endswith("fools 3 of 20 clips. Nobody who knows the defence was tried.")
    assert headline(summary, "another") == []


def test_a_wide_table_is_turned_and_begins_with_what_is_served() -> None:
    head = ("defence", "clean", "a", "b", "c", "knows everything", "e")
    rows = (
        ("x", "1", "2", "3", "4", "5", ""),
        ("none", "6", "", "", "", "", ""),
        ("y", "1", "", "", "", "", ""),
        ("z", "1", "2", "", "", "", ""),
        ("served", "7", "8", "", "", "9", ""),
    )
    found = compact(Table("key", "title", head, rows), "served")
    assert found is not None
    assert found.columns == ("attack", "served", "none", "x", "z")
    assert found.rows == (
        ("knows everything", "9", "", "5", ""),
        ("clean", "7", "6", "1", "1"),
        ("a", "8", "", "2", "2"),
        ("b", "", "", "3", ""),
        ("c", "", "", "4", ""),
    )
    assert compact(Table("key", "title", head[:6], rows), "served") is None
