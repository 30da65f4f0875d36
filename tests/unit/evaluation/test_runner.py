"""Units of work: the same numbers in whatever run, order and process they are computed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.defences import DEFENCES
from videopure.evaluation.attacks.adaptive import unbounded
from videopure.evaluation.attacks.eot import EOTLoss
from videopure.evaluation.attacks.registry import adaptive, static
from videopure.evaluation.attacks.threat_models import CLEAN, Task
from videopure.evaluation.data import ClipSource
from videopure.evaluation.defences.base import Cleaned, DefenceAnswer
from videopure.evaluation.defences.filters import H264, NONE
from videopure.evaluation.defences.purifiers import FORM, ONE_LOOK, VIDEOPURE
from videopure.evaluation.report.examples import load_examples
from videopure.evaluation.runner import Evaluator, run_suite, seconds_alone
from videopure.evaluation.store import Record, Store
from videopure.evaluation.suites import Planned, Suite

pytestmark = pytest.mark.unit

FRESH = f"{FORM}fresh noise"


class ToyClips(ClipSource):
    """Random clips, labelled as the bare recogniser answers."""

    def __len__(self) -> int:
        return 8

    def load(self, start: int, count: int) -> tuple[Tensor, Tensor, list[str]]:
        rows = [
            torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(k))
            for k in range(start, start + count)
        ]
        clips = torch.stack(rows)
        labels = DEFENCES[NONE].recogniser.logits(clips).argmax(1)
        return clips, labels, [str(k) for k in range(start, start + count)]

    def describe(self) -> Any:
        return "toy"

    def check(self, clips: int) -> None:
        """Nothing to check."""


EVALUATOR = Evaluator(DEFENCES, DEFENCES[NONE].recogniser, ToyClips())
ON_4 = adaptive(4, steps=2)
SUITE = Suite(
    "toy",
    (
        Planned(CLEAN, (NONE, VIDEOPURE), 4),
        Planned(static(4)["PGD-10"], (NONE, H264, VIDEOPURE, FRESH), 4, {FRESH: 2}),
        Planned(ON_4["exact-2"], (VIDEOPURE, FRESH), 2),
        Planned(ON_4["BPDA-2"], (H264,), 2),
        Planned(ON_4["exact APGD-2"], (VIDEOPURE,), 2),
        Planned(ON_4["label and suspicion-2"], (VIDEOPURE,), 2),
    ),
    batch=2,
)


def timeless(records: list[Record]) -> list[Record]:
    return sorted(
        (replace(record, seconds=0.0, attack_seconds=0.0) for record in records),
        key=lambda record: (record.threat, record.defence, record.clip),
    )


def run(folder: Path, suite: Suite, processes: int = 1) -> list[Record]:
    for process in range(processes):
        store = Store(folder, {}, process)
        run_suite(EVALUATOR, suite, store, process=process, processes=processes)
    return timeless(Store(folder, {}).records())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole suite's results, of one process."""
    folder = tmp_path_factory.mktemp("finished")
    run(folder, SUITE)
    return folder


@pytest.mark.extended
def test_two_processes_and_a_resumed_run_give_the_numbers_of_one(
    finished: Path, tmp_path: Path
) -> None:
    one = timeless(Store(finished, {}).records())
    assert len(one) == 2 * 4 + 3 * 4 + 2 + 2 * 2 + 2 + 2 + 2
    assert run(tmp_path / "two", SUITE, processes=2) == one
    # A smaller suite first, with fewer defences of the same units: a store is for all suites.
    smaller = Suite("part", (replace(SUITE.planned[1], defences=(VIDEOPURE,)),), batch=2)
    part = run(tmp_path / "part", smaller)
    assert part == [r for r in one if r.threat == "PGD-10 4/255" and r.defence == VIDEOPURE]
    before = (tmp_path / "part" / "units-0.jsonl").read_text()
    assert run(tmp_path / "part", SUITE) == one
    assert (tmp_path / "part" / "units-0.jsonl").read_text().startswith(before)


@pytest.mark.extended
def test_a_finished_suite_computes_nothing(finished: Path) -> None:
    stored = (finished / "units-0.jsonl").read_bytes()
    run(finished, SUITE)
    assert (finished / "units-0.jsonl").read_bytes() == stored


def test_what_is_served_is_timed_and_shown(tmp_path: Path) -> None:
    served = replace(EVALUATOR, served=ONE_LOOK)
    suite = Suite("toy", (Planned(static(4)["PGD-10"], (VIDEOPURE, ONE_LOOK), 2),), batch=2)
    store = Store(tmp_path, {}, 0)
    run_suite(served, suite, store)
    answered = {r.clip: r.label for r in store.records() if r.defence == ONE_LOOK}
    (examples,) = load_examples(store).values()
    assert examples
    for example in examples:
        assert example.label == answered[example.clip]
        look = DEFENCES[ONE_LOOK].candidates(example.frames[1][None], [0])[0][-1]
        assert torch.allclose(example.frames[2], look, atol=1 / 100)
    assert set(seconds_alone(served)) == {NONE, ONE_LOOK}


def task(defence: Cleaned, count: int = 4) -> Task:
    clips, labels, _ = ToyClips().load(0, count)
    generator = torch.Generator().manual_seed(0)
    return Task(clips, labels, defence.recogniser, 8 / 255, generator, defence=defence)


def test_a_clip_is_attacked_alike_whatever_its_batch_mates_are() -> None:
    """Each has randomness of its own, and stops by itself."""
    defence = DEFENCES[NONE]
    assert isinstance(defence, Cleaned)
    attack = adaptive(8, steps=3)["exact-3"]
    assert torch.equal(attack(task(defence, 4))[:2], attack(task(defence, 2)))


CALL = EOTLoss.__call__


def without_goal(self: EOTLoss, clips: Tensor) -> Tensor:
    self._reached = None
    return CALL(self, clips)


def test_stopping_early_fools_the_same_clips_with_fewer_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the same attack that goes on to its last step."""
    defence = DEFENCES["Gaussian blur, sigma 2"]
    assert isinstance(defence, Cleaned)
    job = task(defence, 6)
    calls, wrong = [], []
    for stops in (True, False):
        calls.append(0)

        def counting(self: Cleaned, clips: Tensor, seeds: Any, votes: Any = Cleaned.votes) -> Any:
            calls[-1] += torch.is_grad_enabled()
            return votes(self, clips, seeds)

        with monkeypatch.context() as patch:
            patch.setattr(Cleaned, "votes", counting)
            if not stops:
                patch.setattr(EOTLoss, "__call__", without_goal)
            job = replace(job, generator=torch.Generator().manual_seed(0))
            attacked = adaptive(8, steps=6)["exact-6"](job)
        assert (attacked * 255 - (attacked * 255).round()).abs().max() < 1e-3
        answers = torch.tensor([a.label_id for a in defence.answer(attacked, [0] * 6)])
        wrong.append((answers != job.labels).tolist())
    assert any(wrong[0])
    assert wrong[0] == wrong[1]
    assert calls[0] < calls[1] == 6 * 6


def test_a_defence_that_draws_must_be_fooled_in_every_check() -> None:
    """One that is wrong in half of its draws is never done, and one that always is, at once."""

    class Coin(Cleaned):
        """Wrong where the seed is odd, or always."""

        asked = 0
        always = False

        def answer(self, clips: Tensor, seeds: Any) -> list[DefenceAnswer]:
            type(self).asked += 1
            if self.always:
                return [DefenceAnswer(-1) for _ in seeds]
            return [DefenceAnswer(-1 if self.asked % 2 else int(y)) for y in self.truth]

        def votes(self, clips: Tensor, seeds: Any) -> list[Tensor]:
            wrong = torch.zeros(len(clips), 1, 4)
            wrong[torch.arange(len(clips)), 0, (self.truth + 1) % 4] = 9.0
            return list(wrong + 0 * clips.sum())

        truth = torch.zeros(1, dtype=torch.long)

    recogniser = DEFENCES[NONE].recogniser
    defence = Coin("coin", recogniser, randomised=True)
    job = task(defence, 1)
    Coin.truth = job.labels
    adaptive(8, steps=3)["exact-3"](job)
    assert Coin.asked == 2 * 3  # of every step the first check was fooled, the second not
    Coin.asked, Coin.always = 0, True
    adaptive(8, steps=3)["exact-3"](job)
    assert Coin.asked == 4  # all checks of the first step


def test_an_unbounded_attack_leaves_nothing_undefended() -> None:
    defence = DEFENCES[NONE]
    assert isinstance(defence, Cleaned)
    job = replace(task(defence), epsilon=1.0)
    answers = defence.answer(unbounded(10)(job), [0] * 4)
    assert all(a.label_id != y for a, y in zip(answers, job.labels.tolist(), strict=True))
