"""The verdict of an evaluation: right sentences of numbers that are counted by hand."""

from typing import Any

import pytest

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
    assert verdict(empty) == ["The suite is not finished: these figures are of the answers so far."]
    assert short_table(empty).rows == ()
