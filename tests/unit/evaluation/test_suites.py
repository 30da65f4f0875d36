"""What the suites plan."""

from dataclasses import replace

import pytest

from tests.support.defences import DEFENCES
from videopure.evaluation.defences.base import Cleaned
from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.defences.purifiers import (
    DDIM,
    DDPM,
    FASTER,
    FIRST,
    FORM,
    INVERSION,
    LAST,
    ONE_LOOK,
    VIDEOPURE,
)
from videopure.evaluation.store import EvaluationError, Record
from videopure.evaluation.suites import SUITES, make_suite

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", SUITES)
def test_units_are_told_apart_and_cover_every_clip(name: str) -> None:
    suite = make_suite(name, DEFENCES)  # type: ignore[arg-type]
    keys = [(unit.key, defence) for unit in suite.units() for defence in unit.defences]
    assert len(keys) == len(set(keys))
    planned = {(p.threat.name, d): p.count(d) for p in suite.planned for d in p.defences}
    answered: dict[tuple[str, str], int] = {}
    for unit in suite.units():
        for defence in unit.defences:
            cell = (unit.threat.name, defence)
            answered[cell] = answered.get(cell, 0) + unit.count
    assert answered == planned


def test_the_full_suite_holds_what_it_promises() -> None:
    suite = make_suite("full", DEFENCES)
    counts = {(p.threat.family, p.threat.epsilon, d): p.count(d)
              for p in suite.planned for d in p.defences}  # fmt: skip
    gray = ("PGD-10", "PGD-50", "APGD-CE", "APGD-margin", "MI-FGSM", "flickering",
            "sparse frames", "Square-1000", "transfer")  # fmt: skip
    for family, epsilon in ((f, e) for f in gray for e in (4, 8)):
        for name in (NONE, VIDEOPURE, *(n for n, d in DEFENCES.items() if isinstance(d, Cleaned))):
            assert counts[family, epsilon, name] >= 200
    for family in ("BPDA-20", "exact-20", "exact APGD-20", "label and suspicion-10"):
        assert counts[family, 4, VIDEOPURE] >= 50
        assert counts[family, 8, VIDEOPURE] >= 50
    families = ("exact-20", "BPDA-20", "BPDA-10")
    adaptive = {d for (f, e, d), n in counts.items() if f in families and n >= 20}
    # The others are VideoPure's methods at more steps, for equal cost, and its fast mode and one
    # look, which have suites of their own.
    own = {n for n in DEFENCES if n.startswith((FASTER, ONE_LOOK))}
    assert adaptive == {n for n in DEFENCES if n != NONE and " at t=" not in n} - own
    for form in ("fresh noise", "random anchor"):
        assert counts["exact-20 of 8 draws", 4, FORM + form] == 20
    for form in ("fresh noise", "random anchor", "fresh noise, t and shift"):
        assert counts["exact-100", 4, FORM + form] == 20
    for family in ("exact-100", "exact APGD-100", "label and suspicion-100"):
        assert counts[family, 4, VIDEOPURE] == 50
    # BPDA alone is asked of nothing that has a gradient.
    with_gradient = {d for (f, e, d), n in counts.items() if f == "exact-20" and e == 4 and n >= 20}
    assert with_gradient == {n for n in adaptive if DEFENCES[n].exact}
    assert all(counts["clean", 0, name] >= 10 for name in DEFENCES if name not in own)
    assert {d for f, _, d in counts if f == "unbounded"} == {NONE, VIDEOPURE}


def test_the_demo_suite_holds_what_docs_demo_shows() -> None:
    suite = make_suite("demo", DEFENCES)
    counts = {(p.threat.name, d): p.count(d) for p in suite.planned for d in p.defences}
    simple = [n for n, d in DEFENCES.items() if isinstance(d, Cleaned)]
    assert {threat for threat, _ in counts} == {
        "clean", "PGD-10 4/255", "PGD-10 8/255", "PGD-50 4/255", "PGD-50 8/255",
        "Square-1000 8/255", "transfer 8/255",
    }  # fmt: skip
    for threat, name in counts:
        assert counts[threat, VIDEOPURE] == counts[threat, NONE] == 200
        assert set(simple) <= {d for t, d in counts if t == threat}
        assert not name.startswith(FORM)
    for threat in ("clean", "PGD-10 4/255", "PGD-10 8/255"):
        assert counts[threat, DDPM] == 40
        assert counts[threat, DDIM] == counts[threat, INVERSION] == 100
        for name in (FIRST, LAST, f"{DDIM} at t=1"):
            assert counts[threat, name] == 50


def test_full_holds_the_very_units_of_demo() -> None:
    """What one of them has computed, the other does not compute again."""
    full, demo = (
        {(unit.key, name) for unit in make_suite(suite, DEFENCES).units() for name in unit.defences}
        for suite in ("full", "demo")
    )  # type: ignore[arg-type]
    assert demo < full


def test_what_a_suite_did_not_ask_is_not_reported() -> None:
    suite = make_suite("demo", DEFENCES, clips=50, only_threats=["clean"])
    record = Record(
        threat="clean", family="clean", knowledge="clean", epsilon=0, defence=DDPM, clip=39,
        name="test 39", truth=1, label=1, votes=[], timesteps=[], suspicion=None, seconds=0.1,
        attack_seconds=0.0, largest_change=0.0,
    )  # fmt: skip
    assert suite.holds(record)
    assert not suite.holds(replace(record, clip=40))
    assert suite.holds(replace(record, clip=49, defence=NONE))
    assert not suite.holds(replace(record, clip=50, defence=NONE))
    assert not suite.holds(replace(record, threat="PGD-10 4/255"))
    assert not suite.holds(replace(record, defence=f"{FORM}fresh noise"))


def test_a_suite_can_be_cut_down() -> None:
    suite = make_suite(
        "full", DEFENCES, clips=13, only_threats=["exact-20", "PGD-10 4/255"],
        only_defences=[VIDEOPURE],
    )  # fmt: skip
    keys = [unit.key for unit in suite.units()]
    assert keys == [
        "PGD-10 4/255|*|0+10",
        "PGD-10 4/255|*|10+3",
        *(f"exact-20 {e}/255|{VIDEOPURE}|{s}" for e in (4, 8) for s in ("0+10", "10+3")),
    ]
    assert suite.clips == 13
    assert not any(p.threat.family == "transfer"
                   for p in make_suite("full", DEFENCES, transfer=False).planned)  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"only_threats": ["FGSM"]}, "the suite has no threat 'FGSM'; it has .*PGD-10 4/255"),
        ({"only_defences": ["magic"]}, "the suite has no defence 'magic'; it has .*none"),
    ],
)
def test_names_that_are_not_planned_are_refused(limits: dict[str, list[str]], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        make_suite("quick", DEFENCES, **limits)  # type: ignore[arg-type]


def test_the_speed_suite_compares_fast_mode_and_each_shortcut_on_the_same_clips() -> None:
    suite = make_suite("speed", DEFENCES)
    assert {p.threat.name for p in suite.planned} == {"clean", "PGD-10 4/255", "PGD-10 8/255"}
    for planned in suite.planned:
        assert set(planned.defences) == {NONE, VIDEOPURE, FASTER} | {
            n for n in DEFENCES if n.startswith(f"{FASTER}: ")
        }
        assert len(planned.defences) == 9
        assert planned.count(FASTER) == planned.count(VIDEOPURE) == 100


def test_the_white_box_suite_asks_what_a_sceptic_asks() -> None:
    suite = make_suite("white-box", DEFENCES)
    counts = {(p.threat.name, d): p.count(d) for p in suite.planned for d in p.defences}
    for line in (NONE, ONE_LOOK, VIDEOPURE):
        for threat in ("exact-100 4/255", "exact-100 8/255", "exact APGD-T-100 4/255"):
            assert counts[threat, line] >= 50
        for threat in ("flickering 8/255", "low frequency 4/255", "transfer 4/255", "clean"):
            assert counts[threat, line] == 200
        assert counts["exact-500 4/255", line] == counts["exact-100 32/255", line] == 10
        assert counts["Square through the defence-1000 4/255", line] == 20
    budgets = {p.threat.epsilon for p in suite.planned if p.threat.family == "exact-100"}
    assert budgets == {2, 4, 6, 8, 32}
    assert counts["exact-20 of 20 draws 4/255", f"{FORM}fresh noise"] == 20
    (drawn,) = [p for p in suite.planned if p.threat.family == "exact-20 of 20 draws"]
    assert drawn.threat.answers == 10


def test_the_worst_case_suite_is_all_attacks_on_what_the_others_left() -> None:
    suite = make_suite("worst-case", DEFENCES)
    counts = {(p.threat.name, d): p.count(d) for p in suite.planned for d in p.defences}
    for line in (NONE, ONE_LOOK, VIDEOPURE):
        for epsilon in (4, 8):
            assert counts[f"exact ensemble-100 {epsilon}/255", line] == 200
            assert counts[f"flickering {epsilon}/255", line] == 200
