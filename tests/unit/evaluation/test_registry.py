"""A new attack and a new defence are one file and one line each."""

from pathlib import Path

import pytest
import torch

from tests.support.added_files import add_file
from tests.support.defences import DEFENCES, DEFENDED
from videopure.evaluation.attacks import registry as attacks
from videopure.evaluation.attacks.threat_models import Task
from videopure.evaluation.defences import registry as defences
from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.defences.purifiers import VIDEOPURE
from videopure.evaluation.suites import make_suite

pytestmark = pytest.mark.unit

BRIGHTENING = """
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Attack

ATTACKS = (
    Attack("brightening", "black-box", lambda task: (task.clips + task.epsilon).clamp(0, 1)),
    AdaptiveAttack("darkening", lambda task, steps, draws: task.clips - task.epsilon),
)
"""
INVERTING = """
from videopure.evaluation.defences.base import Cleaned

def defences(defended):
    yield Cleaned("inverting", defended.recogniser, lambda clips, seeds: 1 - clips)
"""


@pytest.fixture
def brightening(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_file(monkeypatch, tmp_path, attacks.__package__, "brightening", BRIGHTENING)
    monkeypatch.setattr(attacks, "FILES", (*attacks.FILES, "brightening"))


@pytest.fixture
def inverting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_file(monkeypatch, tmp_path, defences.__package__, "inverting", INVERTING)
    monkeypatch.setattr(defences, "FILES", ("filters", "inverting", "purifiers"))


def clips() -> torch.Tensor:
    return torch.rand(2, 3, 3, 16, 24, generator=torch.Generator().manual_seed(3))


@pytest.mark.usefixtures("brightening")
def test_a_new_attack_is_run_by_its_name_and_asked_in_the_full_suite() -> None:
    labels = torch.zeros(2, dtype=torch.long)
    recogniser = DEFENCES[NONE].recogniser
    task = Task(clips(), labels, recogniser, 51 / 255, torch.Generator().manual_seed(0))
    whole = (clips() * 255).round() / 255
    attacked = attacks.static(51)["brightening"](task)
    torch.testing.assert_close(attacked, (whole + 0.2).clamp(0, 1))
    darkened = attacks.adaptive(51, steps=3)["darkening-3"](task)
    torch.testing.assert_close(darkened, whole - 0.2)

    planned = {
        p.threat.name: (p.threat.knowledge, p.defences, p.clips)
        for p in make_suite("full", DEFENCES).planned
    }
    for epsilon in (4, 8):
        flickering = planned[f"flickering {epsilon}/255"]
        assert planned[f"brightening {epsilon}/255"] == ("black-box", *flickering[1:])
        assert planned[f"darkening-20 {epsilon}/255"] == ("adaptive", (VIDEOPURE,), 50)


@pytest.mark.usefixtures("inverting")
def test_a_new_filter_answers_and_is_planned_like_the_others() -> None:
    made = defences.make_defences(DEFENDED)
    names = list(made)
    assert names.index("codec round trip") + 1 == names.index("inverting")
    (votes,) = torch.stack(list(made["inverting"].votes(clips(), [0, 0]))).unbind(1)
    torch.testing.assert_close(votes, DEFENDED.recogniser.logits(1 - clips()))

    plans = {suite: make_suite(suite, made).planned for suite in ("quick", "demo", "full")}
    blur = "Gaussian blur, sigma 2"
    for planned in plans.values():
        beside = [p.threat.name for p in planned if blur in p.defences]
        assert [p.threat.name for p in planned if "inverting" in p.defences] == beside
    assert "exact-20 4/255" in {p.threat.name for p in plans["full"] if "inverting" in p.defences}


@pytest.mark.usefixtures("brightening", "inverting")
def test_a_name_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "FILES", (*attacks.FILES, "brightening"))
    with pytest.raises(ValueError, match=r"brightening.py: .* attack named 'brightening' already"):
        attacks.registered()
    monkeypatch.setattr(defences, "FILES", (*defences.FILES, "inverting"))
    with pytest.raises(ValueError, match=r"inverting.py: .* defence named 'inverting' already"):
        defences.make_defences(DEFENDED)
