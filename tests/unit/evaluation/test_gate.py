"""Least shares: how they are written, which there are, and which fell short; counted by hand."""

from typing import Any

import pytest

from tests.support.defences import DEFENCES
from videopure.evaluation.attacks.registry import adaptive, static
from videopure.evaluation.attacks.threat_models import CLEAN
from videopure.evaluation.defences.base import Purified
from videopure.evaluation.defences.purifiers import served_name
from videopure.evaluation.gate import GateError, Minimum, check_names, shortfalls
from videopure.evaluation.plan import Planned, Suite
from videopure.purifier.methods import METHODS, Method
from videopure.purifier.one_look import OneLook
from videopure.purifier.settings import PurifySettings

pytestmark = pytest.mark.unit


def share(right: int, clips: int) -> dict[str, float]:
    return {"share": right / clips, "low": 0.25, "high": 0.875, "right": right, "clips": clips}


@pytest.fixture
def summary() -> dict[str, Any]:
    return {
        "accuracy": {
            "none": {"clean": share(20, 20)},
            "one look": {"clean": share(97, 100), "PGD-10 4/255": share(3, 5)},
        },
        "worst_case": {"one look": {"4": share(3, 5)}},
        "missing": {},
    }


@pytest.fixture
def suite() -> Suite:
    return Suite(
        "small",
        (
            Planned(CLEAN, ("none", "one look"), 20),
            Planned(static(4)["PGD-10"], ("one look",), 20),
            Planned(adaptive(8)["exact-20"], ("none",), 20),
        ),
    )


@pytest.mark.parametrize(
    ("text", "minimum"),
    [
        ("clean=0.97", Minimum("clean", 0.97)),
        ("worst case 4/255=.8", Minimum("worst case 4/255", 0.8)),
        ("none: PGD-10 4/255=1", Minimum("PGD-10 4/255", 1, "none")),
        (
            "VideoPure fast: inversion in one step: clean = 0",
            Minimum("clean", 0, "VideoPure fast: inversion in one step"),
        ),
    ],
)
def test_a_minimum_is_read(text: str, minimum: Minimum) -> None:
    assert Minimum.parse(text) == minimum


@pytest.mark.parametrize("text", ["clean", "clean=", "=0.9", "clean=97", "clean=-0.1", "clean=nan"])
def test_what_is_no_minimum_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(GateError, match=f"THREAT=SHARE, .* from 0 to 1, got '{text}'"):
        Minimum.parse(text)


def test_what_is_reached_exactly_is_reached(summary: dict[str, Any]) -> None:
    asked = [
        Minimum("clean", 0.97),
        Minimum("worst case 4/255", 0.6),
        Minimum("clean", 1, "none"),
    ]
    assert shortfalls(asked, summary, "one look") == []


def test_what_falls_short_is_named_with_its_figures(summary: dict[str, Any]) -> None:
    asked = [Minimum("clean", 0.98), Minimum("worst case 4/255", 0.8), Minimum("clean", 1, "none")]
    clean, worst = shortfalls(asked, summary, "one look")
    assert clean == (
        "clean of one look: 0.97 is less than 0.98 (97 of 100 clips; 95 % interval 0.25 to 0.88)"
    )
    assert worst.startswith("worst case 4/255 of one look: 0.6 is less than 0.8 (3 of 5 clips;")


def test_what_was_not_measured_in_full_falls_short(summary: dict[str, Any]) -> None:
    unmeasured = [Minimum("PGD-50 4/255", 0), Minimum("worst case 8/255", 0)]
    assert all("was not measured" in s for s in shortfalls(unmeasured, summary, "one look"))
    summary["missing"] = {"PGD-10 4/255": {"one look": {"answered": 5, "planned": 20}}}
    asked = [
        Minimum("worst case 4/255", 0),
        Minimum("PGD-10 4/255", 0),
        Minimum("clean", 0.5),
        Minimum("clean", 0.5, "none"),
    ]
    found = shortfalls(asked, summary, "one look")
    assert [s.partition(" of ")[0] for s in found] == ["worst case 4/255", "PGD-10 4/255"]
    assert all("is not finished" in s for s in found)


def test_names_that_the_suite_does_not_have_are_refused(suite: Suite) -> None:
    known = ["clean=1", "PGD-10 4/255=1", "worst case 4/255=1", "none: worst case 8/255=1"]
    check_names([Minimum.parse(text) for text in known], suite, "one look")

    def refused(text: str, message: str) -> None:
        with pytest.raises(GateError, match=message):
            check_names([Minimum.parse(text)], suite, "one look")

    refused("none: PGD-10 4/255=1", "no 'PGD-10 4/255' of none; it has clean, exact-20 8/255, wo")
    refused("worst case 8/255=1", "no 'worst case 8/255' of one look; it has .*worst case 4/255$")
    refused("magic: clean=1", "has no defence 'magic'; it has none, one look")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("guided", [False, True])
def test_the_served_row_answers_with_what_is_served(method: Method, guided: bool) -> None:
    settings = PurifySettings(inversion_steps=0, method=method, one_look=OneLook(guided=guided))
    served = DEFENCES[served_name(settings)]
    assert isinstance(served, Purified)
    assert served.defended.settings.method == method
    if method == "one_look":
        assert served.defended.settings.one_look == settings.one_look
