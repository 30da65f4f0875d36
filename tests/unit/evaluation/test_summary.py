"""Figures of an evaluation whose answers are known."""

from dataclasses import replace

import pytest

from tests.support.records import LIMITS, RECORDS, answers
from videopure.evaluation.defences.purifiers import FIRST, LAST
from videopure.evaluation.report.output import markdown
from videopure.evaluation.report.summary import summarise
from videopure.evaluation.report.tables import make_tables

pytestmark = pytest.mark.unit


def test_shares_have_intervals_and_counts() -> None:
    share = summarise(RECORDS, {})["accuracy"]["VideoPure"]["PGD-10 4/255"]
    assert (share["share"], share["right"], share["clips"]) == (0.75, 3, 4)
    assert share["low"] == pytest.approx(0.3006, abs=1e-4)


def test_the_worst_case_takes_every_attack_on_the_clips_that_met_all() -> None:
    worst = summarise(RECORDS, {})["worst_case"]
    at_4 = worst["VideoPure"]["4"]
    # Clips 0..2 met everything of up to 4/255: 0 falls to BPDA, 1 to the exact gradient.
    assert (at_4["right"], at_4["clips"], at_4["attacks"], at_4["adaptive"]) == (1, 3, 6, True)
    assert (worst["VideoPure"]["8"]["right"], worst["VideoPure"]["8"]["clips"]) == (1, 3)
    assert (worst["none"]["4"]["right"], worst["none"]["4"]["adaptive"]) == (1, False)
    assert "255" not in worst["VideoPure"]


def test_a_check_on_few_clips_takes_away_what_it_fools_and_leaves_the_rest() -> None:
    records = [
        *answers("VideoPure", "clean", "111111", knowledge="clean"),
        *answers("VideoPure", "exact-100 4/255", "111100", knowledge="adaptive"),
        *answers("VideoPure", "exact-500 4/255", "01", knowledge="adaptive"),
        *answers("VideoPure", "exact-100 32/255", "0", knowledge="adaptive"),
    ]
    worst = summarise(records, {})["worst_case"]["VideoPure"]
    assert (worst["4"]["right"], worst["4"]["clips"], worst["4"]["attacks"]) == (3, 6, 2)
    # Nothing larger was asked of the other clips.
    assert (worst["32"]["right"], worst["32"]["clips"]) == (0, 1)


def test_clips_that_met_only_smaller_budgets_of_an_attack_do_not_count_at_a_larger_one() -> None:
    records = [
        *answers("VideoPure", "PGD-50 8/255", "111111"),
        *answers("VideoPure", "exact-100 6/255", "1111", knowledge="adaptive"),
        *answers("VideoPure", "exact-100 8/255", "01", knowledge="adaptive"),
    ]
    worst = summarise(records, {})["worst_case"]["VideoPure"]
    assert (worst["6"]["right"], worst["6"]["clips"]) == (4, 4)
    assert (worst["8"]["right"], worst["8"]["clips"]) == (1, 2)


def test_a_clip_that_one_of_several_answers_gets_wrong_is_lost_in_the_worst_case() -> None:
    name, threat = "VideoPure, fresh noise", "exact-20 of 20 draws 4/255"
    wrong = (0, 3, 10)
    asked = [
        replace(record, answers=10, wrong_answers=count)
        for record, count in zip(
            answers(name, threat, "110", knowledge="adaptive"), wrong, strict=True
        )
    ]
    summary = summarise(asked, {})
    assert summary["accuracy"][name][threat]["right"] == 2
    assert summary["worst_case"][name]["4"]["right"] == 1
    found = summary["drawn"][name][threat]
    assert (found["first"]["right"], found["all"]["right"], found["answers"]) == (2, 1, 10)
    (drawn,) = [t for t in make_tables(summary) if t.key == "drawn"]
    assert drawn.columns[-1] == "right in all of 10 answers"
    assert summarise(RECORDS, {})["drawn"] == {}


@pytest.mark.parametrize(
    ("gradient", "holds"),
    [
        ({"loss": 0.3, "zero": 0.1, "largest": 2.0}, True),
        ({"loss": 0.3, "zero": 1.0, "largest": 0.0}, False),
        ({"loss": 1e-9, "zero": 0.1, "largest": 1e-9}, False),
    ],
)
def test_gradients_that_are_zero_or_saturated_are_named(
    gradient: dict[str, float], holds: bool
) -> None:
    records = answers("one look", "exact-100 4/255", "11", knowledge="adaptive")
    good = {"loss": 0.1, "zero": 0.0, "largest": 1.0}
    found = [replace(r, gradient=g) for r, g in zip(records, (good, gradient), strict=True)]
    checks = {c["check"]: c["holds"] for c in summarise(found, {})["sanity"]}
    assert checks == {"gradients are neither zero nor saturated": holds}


def test_more_steps_than_enough_queries_and_a_large_budget_are_checked() -> None:
    kept = {
        "exact-100 4/255": "1110",
        "exact-500 4/255": "0110",
        "Square through the defence-1000 4/255": "1111",
        "exact-100 32/255": "0010",
    }
    records = [r for t, s in kept.items() for r in answers("both", t, s, knowledge="adaptive")]
    checks = {(c["check"], c["holds"]) for c in summarise(records, {})["sanity"]}
    assert ("500 steps take nothing more", False) in checks
    assert ("gradients beat queries of the whole defence", True) in checks
    assert ("nothing is left at 32/255", False) in checks
    assert ("more budget helps", True) in checks


def test_pairs_are_those_of_mcnemar() -> None:
    pairs = summarise(RECORDS, {})["paired"]["none"]
    assert pairs["PGD-10 4/255"] == {"only_served": 2, "only_this": 0, "p": 0.5}
    assert pairs["clean"] == {"only_served": 0, "only_this": 0, "p": 1.0}
    assert "exact-20 4/255" not in pairs


def test_suspicion_tells_attacked_from_clean_clips() -> None:
    found = summarise(RECORDS, LIMITS)["suspicion"]["VideoPure"]["PGD-10 4/255"]
    # Of the 16 pairs the attacked clip's score is higher in 9 and equal in 2.
    assert found["auc"] == (9 + 0.5 * 2) / 16
    assert found["alarms_at_1_percent"] == 0.25  # above 0.6, the highest of the clean ones
    # Clip 3 alone is wrong, and its score is below the threshold.
    assert found["fooled_and_silent"]["right"] == 1
    assert (
        "fooled_and_silent" not in summarise(RECORDS, {})["suspicion"]["VideoPure"]["PGD-10 4/255"]
    )


def test_alarms_are_counted_at_every_threshold() -> None:
    alarms = summarise(RECORDS, LIMITS)["alarms"]["VideoPure"]
    assert alarms == {
        "clean": {"1% of clean clips": 0.25, "5% of clean clips": 0.5},
        "PGD-10 4/255": {"1% of clean clips": 0.5, "5% of clean clips": 0.5},
    }
    assert summarise(RECORDS, {})["alarms"] == {}


def test_sanity_checks_find_what_is_wrong() -> None:
    checks = {(c["check"], c["detail"]): c["holds"] for c in summarise(RECORDS, {})["sanity"]}
    assert checks == {
        ("more budget helps", "VideoPure, PGD-10 at 4, 8/255: 3, 4 of 4 left"): False,
        (
            "knowing the defence helps",
            "VideoPure: exact-20 of 8 draws 4/255 leaves 2, PGD-10 4/255 3 of 3",
        ): True,
        (
            "more draws help",
            "VideoPure: exact-20 of 8 draws 4/255 leaves 2, exact-20 4/255 1 of 3",
        ): False,
        (
            "more steps help",
            "VideoPure: exact APGD-100 4/255 leaves 1, exact APGD-20 4/255 2 of 3",
        ): True,
        ("more steps help", "none: PGD-50 4/255 leaves 2, PGD-10 4/255 1 of 4"): False,
        (
            "the exact gradient beats BPDA",
            "VideoPure: exact-20 4/255 leaves 1, BPDA-20 4/255 2 of 3",
        ): True,
        (
            "knowing the defence helps",
            "VideoPure: exact-20 4/255 leaves 1, PGD-10 4/255 3 of 3",
        ): True,
        ("an unbounded attack leaves nothing", "VideoPure: 1 of 2 clips left"): False,
    }


def test_fidelity_and_seconds_are_averaged() -> None:
    summary = summarise(RECORDS, {})
    assert summary["fidelity"]["VideoPure"] == {"psnr": 31.5, "ssim": 0.9}
    assert summary["seconds"]["none"] == 0.5
    assert summary["attack_seconds"]["PGD-10 4/255"] == {"recogniser": 2.0}
    assert summary["attack_seconds"]["exact-20 4/255"] == {"VideoPure": 2.0}


def test_tables_are_markdown() -> None:
    rows = markdown({**summarise(RECORDS, LIMITS), "thresholds": LIMITS}).splitlines()
    none = [row for row in rows if row.startswith("| none | 100.0% (51%–100%, n=4) |")]
    assert "| 50.0% (15%–85%, n=4) |" in none[1]  # PGD-50 4/255
    assert any("| NO |" in row and "more steps help" in row for row in rows)
    assert "| none | +0 −0 (p=1) | +2 −0 (p=0.5) |  |" in "\n".join(rows)
    assert "| 5% of clean clips | 50.0% | 50.0% |" in rows
    assert "| PGD-10 4/255 | 75.0% of 4 |" in rows  # votes at timestep 1


def test_the_last_candidate_takes_as_long_as_the_vote_that_it_was_computed_in() -> None:
    first, last = (
        [replace(r, seconds=s) for r in answers(name, "clean", "11", knowledge="clean")]
        for name, s in ((FIRST, 0.8), (LAST, 0.0))
    )
    assert summarise([*first, *last], {})["seconds"] == {FIRST: 0.8, LAST: 0.8}


def test_the_papers_layout_is_that_of_its_suite() -> None:
    records = [*RECORDS, *answers("DDIM", "clean", "1110", knowledge="clean")]
    summary = {**summarise(records, {}), "suite": "paper"}
    (paper,) = [table for table in make_tables(summary) if table.key == "paper"]
    assert paper.columns[2:6] == ("clean", "standard", "attack", "robust gray-box")
    cells = {(row[0], row[1]): [cell.split(" ")[0] for cell in row[2:]] for row in paper.rows}
    assert cells["4/255", "VideoPure"] == ["100.0%", "100.0%", "25.0%", "75.0%", "66.7%", "33.3%"]
    assert cells["4/255", "DDIM"] == ["100.0%", "75.0%", "25.0%", "", "", ""]
    assert not [t for t in make_tables({**summary, "suite": "full"}) if t.key == "paper"]
