"""What a sceptic asks for: low frequencies, several starts, targets, and queries."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.support.models import tiny_recogniser
from videopure.evaluation.attacks import ensemble, mi_fgsm
from videopure.evaluation.attacks.apgd_targeted import targeted_dlr
from videopure.evaluation.attacks.losses import label_loss, lead
from videopure.evaluation.attacks.low_frequency import low_frequency
from videopure.evaluation.attacks.pgd import pgd
from videopure.evaluation.attacks.probe import probe
from videopure.evaluation.attacks.registry import adaptive
from videopure.evaluation.attacks.restarts import strongest
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Task
from videopure.evaluation.defences.base import Cleaned

pytestmark = pytest.mark.unit

EPSILON = 4 / 255
RECOGNISER = tiny_recogniser(4, (16, 16))
DEFENCE = Cleaned("none", RECOGNISER)


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def clips(count: int) -> tuple[Tensor, Tensor]:
    """Random ones, labelled as the recogniser answers."""
    drawn = torch.rand(count, 4, 3, 16, 16, generator=seeded(1)) * 0.8 + 0.1
    return drawn, RECOGNISER.logits(drawn).argmax(1)


def task(count: int, epsilon: int = 1) -> Task:
    drawn, labels = clips(count)
    return Task(drawn, labels, RECOGNISER, epsilon / 255, seeded(), defence=DEFENCE)


def left(attacked: Tensor, labels: Tensor) -> int:
    return int((RECOGNISER.logits(attacked).argmax(1) == labels).sum())


def test_low_frequency_changes_are_smooth_within_the_budget_and_raise_the_loss() -> None:
    drawn, labels = clips(8)
    loss = label_loss(RECOGNISER.logits, labels)
    smooth = low_frequency(loss, drawn, epsilon=EPSILON, steps=20, generator=seeded())
    change = smooth - drawn
    assert 0.5 * EPSILON < change.abs().max() <= EPSILON + 1e-6
    # Neighbouring pixels of cells of 8 differ by at most an eighth of what two cells may.
    for axis in (3, 4):
        assert change.diff(dim=axis).abs().max() <= 2 * EPSILON / 8 + 1e-6
    plain = pgd(loss, drawn, epsilon=EPSILON, steps=20, generator=seeded()) - drawn
    assert plain.diff(dim=4).abs().max() > EPSILON
    with torch.no_grad():
        assert loss(smooth).mean() > loss(drawn).mean()


def test_low_frequency_finds_the_worst_case_where_it_is_smooth() -> None:
    drawn = torch.full((2, 4, 3, 16, 16), 0.5)
    darkest = low_frequency(
        lambda x: -x.mean(dim=(1, 2, 3, 4)), drawn, epsilon=EPSILON, generator=seeded()
    )
    torch.testing.assert_close(darkest, drawn - EPSILON)


def test_the_strongest_attempt_on_each_clip_is_kept_and_those_that_are_done_are_left_alone() -> (
    None
):
    job = task(6)
    wrong = job.clips.clone()
    wrong[::2] = pgd(job.rows(torch.arange(0, 6, 2)).bare_loss(), job.clips[::2], epsilon=0.5)
    asked: list[list[int]] = []

    def still(part: Task, rows: Tensor) -> Tensor:
        asked.append(rows.tolist())
        return part.clips

    def swapped(part: Task, rows: Tensor) -> Tensor:
        asked.append(rows.tolist())
        assert torch.equal(part.labels, job.labels[rows])
        return wrong[rows]

    kept = strongest(job, 1, [still, swapped, still])
    fooled = RECOGNISER.logits(wrong).argmax(1) != job.labels
    assert 0 < fooled.sum() < 6
    assert asked == [[*range(6)], [*range(6)], (~fooled).nonzero().flatten().tolist()]
    assert torch.equal(kept[fooled], wrong[fooled])
    better = label_loss(RECOGNISER.logits, job.labels)
    with torch.no_grad():
        assert torch.equal(
            better(kept)[~fooled], torch.maximum(better(job.clips), better(wrong))[~fooled]
        )


def test_clips_that_are_attacked_together_are_attacked_alike() -> None:
    """Where nothing is drawn but the start, a batch holds what one clip after the other holds."""
    alone, together = task(6), replace(task(6), together=True)
    for name in ("exact-4", "exact APGD-T-4", "exact ensemble-4"):
        threat = adaptive(1, steps=4)[name]
        one, all_at_once = threat(alone), threat(together)
        assert (all_at_once - alone.clips).abs().max() <= 1.5 / 255 + 1e-6  # stored in 256 levels
        assert abs(left(one, alone.labels) - left(all_at_once, alone.labels)) <= 1, name


def test_more_starts_leave_no_more_clips() -> None:
    job = task(24)
    one = left(adaptive(1, steps=4)["exact-4"](job), job.labels)
    job = task(24)
    five = left(adaptive(1, steps=4)["exact from 5 starts-4"](job), job.labels)
    assert five <= one < 24


def test_the_ratio_of_logits_is_that_of_the_paper() -> None:
    """By hand (arXiv 2003.01690, equation 7), and blind to scale and shift."""
    logits = torch.tensor([[5.0, 1.0, 3.0, 2.0, 0.0], [0.0, 4.0, 1.0, 2.0, 3.0]])
    labels, targets = torch.tensor([0, 4]), torch.tensor([3, 1])
    expected = torch.tensor([(2 - 5) / (5 - (2 + 1) / 2), (4 - 3) / (4 - (2 + 1) / 2)])
    torch.testing.assert_close(targeted_dlr(logits, labels, targets), expected)
    torch.testing.assert_close(targeted_dlr(3 * logits - 7, labels, targets), expected)
    # Of three classes nothing but the difference is left.
    few = targeted_dlr(logits[:, :3], labels * 0, targets * 0 + 1)
    torch.testing.assert_close(few, torch.tensor([1.0 - 5.0, 4.0 - 0.0]))


@pytest.mark.parametrize(
    "family",
    ["exact APGD-T-6", "exact APGD-CE-6", "exact low frequency-6", "exact-6", "exact momentum-6"],
)
def test_adaptive_attacks_fool_an_undefended_recogniser(family: str) -> None:
    job = task(12, epsilon=8)
    attacked = adaptive(8, steps=6)[family](job)
    assert (attacked - job.clips).abs().max() <= 8.5 / 255 + 1e-6  # rounded to 256 levels
    assert left(attacked, job.labels) <= 6


def test_all_attacks_together_leave_no_clip_that_one_of_them_takes() -> None:
    job = task(12)
    alone = [adaptive(1, steps=3)[f"{name}-3"](task(12)) for name in ensemble.ORDER]
    survive = torch.stack([RECOGNISER.logits(x).argmax(1) == job.labels for x in alone]).all(0)
    attacked = adaptive(1, steps=3)["exact ensemble-3"](job)
    assert left(attacked, job.labels) <= int(survive.sum()) + 1  # other random starts
    assert left(attacked, job.labels) < 12
    assert (attacked - job.clips).abs().max() <= 1.5 / 255 + 1e-6


def test_an_attack_is_not_begun_on_a_clip_that_fell_before(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def late(job: Task, steps: int, draws: int) -> Tensor:
        begun.append("late")
        return job.clips

    monkeypatch.setattr(mi_fgsm, "ATTACKS", (AdaptiveAttack("exact momentum", late),))
    adaptive(64, steps=8)["exact ensemble-8"](task(2, epsilon=64))
    assert begun == []
    adaptive(0, steps=1)["exact ensemble-1"](task(2, epsilon=0))
    assert begun == ["late", "late"]


def test_the_probe_tells_gradients_from_none() -> None:
    """By the gradient of the very loss, and of a defence that rounds."""
    job = task(2)
    drawn = job.clips.clone().requires_grad_()
    torch.nn.functional.cross_entropy(
        RECOGNISER.logits(drawn), job.labels, reduction="sum"
    ).backward()
    assert drawn.grad is not None
    for k, found in enumerate(probe(job)):
        assert found["largest"] == pytest.approx(float(drawn.grad[k].abs().max()), rel=1e-3)
        assert found["zero"] == pytest.approx(float((drawn.grad[k] == 0).float().mean()), abs=0.01)
        assert found["loss"] > 0

    rounding = Cleaned("rounding", RECOGNISER, lambda x, _: (x * 255).round() / 255)
    (masked, _) = probe(replace(job, defence=rounding))
    assert (masked["zero"], masked["largest"]) == (1.0, 0.0)


def test_targets_reach_classes_that_the_plain_loss_does_not_aim_at() -> None:
    """A recogniser whose likeliest wrong class has no gradient: another one has to be aimed at."""

    def logits(shown: Tensor) -> Tensor:
        mean = shown.mean(dim=(1, 2, 3, 4))
        constant = torch.zeros_like(mean)
        return torch.stack((0.2 + constant, 0.19 + constant, 20 * (mean - 0.5), constant), dim=1)

    class Deaf(Cleaned):
        def votes(self, clips: Tensor, seeds: object) -> list[Tensor]:
            return list(logits(clips)[:, None])

    drawn = torch.full((1, 4, 3, 16, 16), 0.5)
    defence = Deaf("deaf", RECOGNISER)
    job = Task(drawn, torch.tensor([0]), RECOGNISER, 8 / 255, seeded(), defence=defence)
    attacked = adaptive(8, steps=6)["exact APGD-T-6"](job)
    assert logits(attacked).argmax(1).tolist() == [2]


def test_queries_through_the_defence_take_no_gradient() -> None:
    asked: list[int] = []

    class Counting(Cleaned):
        def votes(self, clips: Tensor, seeds: Sequence[int]) -> Sequence[Tensor]:
            asked.append(torch.is_grad_enabled())
            return super().votes(clips, seeds)

    job = task(1, epsilon=16)
    defence = Counting("counting", RECOGNISER)
    job = Task(job.clips, job.labels, RECOGNISER, 16 / 255, seeded(), defence=defence)
    attacked = adaptive(16, steps=200)["Square through the defence-200"](job)
    assert 1 < len(asked) <= 200
    assert not any(asked)
    before, after = (lead(RECOGNISER.logits(x), job.labels) for x in (job.clips, attacked))
    assert after < before
