"""What the suites plan."""

import pytest

from tests.unit.test_defences import DEFENCES
from videopure.evaluation.line_up import NONE, VIDEOPURE
from videopure.evaluation.store import EvaluationError
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
    gray = ("PGD-10", "PGD-50", "APGD-CE", "APGD-margin", "MI-FGSM", "transfer")
    for family, epsilon in [(f, e) for f in gray for e in (4, 8)] + [
        ("flickering", 8), ("sparse frames", 8), ("Square-1000", 8)
    ]:  # fmt: skip
        assert counts[family, epsilon, VIDEOPURE] >= 200
        assert counts[family, epsilon, NONE] >= 200
    for family in ("BPDA-20", "exact-20", "exact APGD-20", "label and suspicion-20"):
        assert counts[family, 4, VIDEOPURE] >= 50
        assert counts[family, 8, VIDEOPURE] >= 50
    for defence in DEFENCES:
        assert defence == NONE or counts["exact-20", 4, defence] >= 20
        assert ("unbounded", 255, VIDEOPURE) in counts


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
