"""Attacks with and without gradients, on toys with a known answer and on a small network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.models import tiny_recogniser
from videopure.evaluation.attacks.apgd import apgd
from videopure.evaluation.attacks.flickering import flickering
from videopure.evaluation.attacks.losses import cross_entropy, label_loss, lead, margin
from videopure.evaluation.attacks.mi_fgsm import mi_fgsm
from videopure.evaluation.attacks.pgd import pgd
from videopure.evaluation.attacks.sparse_frames import sparse_frames
from videopure.evaluation.attacks.square import square

pytestmark = pytest.mark.unit

EPSILON = 0.05


def brightness_logits(clips: Tensor) -> Tensor:
    """Class 1 where the mean pixel exceeds one half: the best attack moves every pixel alike."""
    mean = clips.mean(dim=(1, 2, 3, 4))
    return torch.stack((0.5 - mean, mean - 0.5), dim=1) * 20


def clips_at(*means: float) -> Tensor:
    return torch.stack([torch.full((4, 3, 8, 8), mean) for mean in means])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


ATTACKS: dict[str, Callable[..., Tensor]] = {
    "pgd": lambda loss, clips: pgd(loss, clips, epsilon=EPSILON, steps=60, generator=seeded()),
    "mi_fgsm": lambda loss, clips: mi_fgsm(loss, clips, epsilon=EPSILON),
    "apgd": lambda loss, clips: apgd(loss, clips, epsilon=EPSILON, generator=seeded()),
    "flickering": lambda loss, clips: flickering(loss, clips, epsilon=EPSILON, generator=seeded()),
    "sparse_frames": lambda loss, clips: sparse_frames(
        loss, clips, epsilon=EPSILON, frames=2, generator=seeded()
    ),
}


@pytest.mark.parametrize("name", ["pgd", "mi_fgsm", "apgd", "flickering"])
def test_attacks_find_the_worst_case(name: str) -> None:
    clips = clips_at(0.53, 0.60)
    attacked = ATTACKS[name](label_loss(brightness_logits, torch.tensor([1, 1])), clips)
    # The optimum is the clip minus epsilon everywhere.
    torch.testing.assert_close(attacked, clips - EPSILON, rtol=0, atol=1e-6)
    assert brightness_logits(attacked).argmax(1).tolist() == [0, 1]


@pytest.mark.parametrize("name", ATTACKS)
def test_attacked_clips_stay_pixels_within_the_budget(name: str) -> None:
    clips = torch.rand(2, 4, 3, 8, 8, generator=seeded()).round()
    attacked = ATTACKS[name](label_loss(brightness_logits, torch.tensor([0, 1])), clips)
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert 0 < (attacked - clips).abs().max().item() <= EPSILON + 1e-6
    assert not attacked.requires_grad


def test_flickering_changes_every_frame_as_a_whole() -> None:
    clips = torch.rand(2, 4, 3, 8, 8, generator=seeded()) * 0.5 + 0.25
    change = ATTACKS["flickering"](label_loss(brightness_logits, torch.tensor([1, 1])), clips)
    change = change - clips
    torch.testing.assert_close(change, change[..., :1, :1].expand_as(change), rtol=0, atol=1e-6)


def test_sparse_frames_finds_the_frames_that_matter() -> None:
    weights = torch.tensor([0.1, 1.0, 0.2, 2.0])[:, None, None, None]
    clips = clips_at(0.5, 0.5)
    attacked = ATTACKS["sparse_frames"](
        label_loss(lambda x: brightness_logits(x * weights), torch.tensor([1, 1])), clips
    )
    changed = (attacked != clips).flatten(2).any(2)
    assert changed.tolist() == [[False, True, False, True]] * 2
    with pytest.raises(ValueError, match=r"frames must be in 1\.\.4, got 5"):
        sparse_frames(lambda x: x.sum(), clips, epsilon=0.1, frames=5)


@pytest.mark.extended
@pytest.mark.parametrize("kind", [cross_entropy, margin])
def test_apgd_reaches_at_least_the_loss_of_pgd(kind: Callable[..., Tensor]) -> None:
    recogniser = tiny_recogniser(4, (8, 8))
    clips = torch.rand(200, 4, 3, 8, 8, generator=seeded())
    labels = recogniser.logits(clips).argmax(1)
    loss = label_loss(recogniser.logits, labels, kind)
    plain = pgd(loss, clips, epsilon=4 / 255, steps=50, step_size=0.5 / 255, generator=seeded())
    own = apgd(loss, clips, epsilon=4 / 255, steps=50, generator=seeded())
    assert loss(own).mean() >= loss(plain).mean()
    survivors = [int((recogniser.logits(c).argmax(1) == labels).sum()) for c in (own, plain)]
    assert survivors[0] <= survivors[1] < 100


@pytest.mark.parametrize("name", ["apgd", "mi_fgsm", "all frames"])
def test_no_attack_of_ours_is_weaker_than_plain_pgd(name: str) -> None:
    """On an undefended network, for as many steps; the others may change less than PGD may."""
    recogniser = tiny_recogniser(4, (8, 8))
    clips = torch.rand(100, 4, 3, 8, 8, generator=seeded())
    labels = recogniser.logits(clips).argmax(1)
    loss = label_loss(recogniser.logits, labels)
    budget: dict[str, Any] = {"epsilon": 4 / 255, "steps": 10}
    plain = pgd(loss, clips, step_size=2 / 255, generator=seeded(), **budget)
    attacks: dict[str, Callable[[], Tensor]] = {
        "apgd": lambda: apgd(loss, clips, generator=seeded(), **budget),
        "mi_fgsm": lambda: mi_fgsm(loss, clips, **budget),
        "all frames": lambda: sparse_frames(loss, clips, frames=4, generator=seeded(), **budget),
    }
    ours, theirs, before = (loss(c).mean() for c in (attacks[name](), plain, clips))
    assert ours - before >= 0.99 * (theirs - before) > 0


def test_a_warm_start_goes_on_where_it_is_told() -> None:
    clips = clips_at(0.6)
    loss = label_loss(brightness_logits, torch.tensor([1]))
    start = clips - 0.04
    attacked = pgd(loss, clips, epsilon=EPSILON, steps=1, step_size=0.002, start=start)
    torch.testing.assert_close(attacked, clips - 0.042)
    outside = pgd(loss, clips, epsilon=EPSILON, steps=1, step_size=0.0, start=clips - 0.3)
    torch.testing.assert_close(outside, clips - EPSILON)


def test_the_best_clips_on_the_way_may_be_kept() -> None:
    """A step that is far too long jumps to and fro over the optimum, which lies at -0.01."""

    def loss(clips: Tensor) -> Tensor:
        return -(clips.mean(dim=(1, 2, 3, 4)) - 0.59).abs()

    budget = {"epsilon": EPSILON, "steps": 3, "step_size": 0.03, "start": clips_at(0.585)}
    kept = pgd(loss, clips_at(0.6), keep_best=True, **budget)  # type: ignore[arg-type]
    last = pgd(loss, clips_at(0.6), **budget)  # type: ignore[arg-type]
    torch.testing.assert_close(kept, clips_at(0.585))
    assert loss(last).item() < loss(kept).item()


def until_fooled(clips: Tensor) -> Tensor:
    """Class 1 is to be left; a clip is done as soon as it is."""
    logits = brightness_logits(clips)
    values = cross_entropy(logits, torch.ones(len(clips), dtype=torch.long))
    return values.masked_fill(logits.argmax(1) != 1, torch.inf)


@pytest.mark.parametrize("keep_best", [False, True])
def test_pgd_keeps_clips_that_are_done_and_stops_when_all_are(keep_best: bool) -> None:
    clips, taken = clips_at(0.515, 0.535, 0.60), []
    budget = {"epsilon": EPSILON, "steps": 8, "step_size": 0.01, "start": clips}
    attacked = pgd(until_fooled, clips, keep_best=keep_best, **budget)  # type: ignore[arg-type]
    # Steps of 0.01, and not one more than is needed; the last clip is out of reach.
    torch.testing.assert_close(attacked, clips_at(0.495, 0.495, 0.55))
    plain = pgd(label_loss(brightness_logits, torch.tensor([1, 1, 1])), clips, **budget)  # type: ignore[arg-type]
    assert (
        brightness_logits(plain).argmax(1).tolist()
        == brightness_logits(attacked).argmax(1).tolist()
    )
    pgd(until_fooled, clips[:2], on_step=lambda: taken.append(1), **{**budget, "start": clips[:2]})  # type: ignore[arg-type]
    assert len(taken) == 4


def test_apgd_keeps_clips_that_are_done_and_stops_when_all_are() -> None:
    clips, calls = clips_at(0.53, 0.54), []

    def counting(video: Tensor) -> Tensor:
        calls.append(1)
        return until_fooled(video)

    attacked = apgd(counting, clips, epsilon=EPSILON, start=clips)
    assert brightness_logits(attacked).argmax(1).tolist() == [0, 0]
    assert len(calls) == 2  # the start, and one step of twice epsilon


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_what_is_never_done_is_attacked_as_before(attack: Callable[..., Tensor]) -> None:
    """The same clips, bit by bit, while a batch mate is done from the start."""
    loss = label_loss(brightness_logits, torch.tensor([1, 1]))
    clips = torch.rand(2, 4, 3, 8, 8, generator=seeded()) * 0.2 + 0.7
    start = clips + 0.001

    def one_is_done(video: Tensor) -> Tensor:
        return loss(video).masked_fill(torch.tensor([False, True]), torch.inf)

    plain = attack(loss, clips, epsilon=EPSILON, steps=6, start=start)
    stopping = attack(one_is_done, clips, epsilon=EPSILON, steps=6, start=start)
    assert torch.equal(stopping[0], plain[0])
    torch.testing.assert_close(stopping[1], start[1], rtol=0, atol=1e-6)


def test_square_fools_what_can_be_fooled_and_keeps_the_budget() -> None:
    clips = clips_at(0.51, 0.60, 0.40)
    labels = torch.tensor([1, 1, 1])
    attacked = square(
        brightness_logits, clips, labels, epsilon=0.05, queries=300, generator=seeded()
    )
    assert (attacked - clips).abs().max().item() <= 0.05 + 1e-6
    assert brightness_logits(attacked).argmax(1).tolist() == [0, 1, 0]


def test_square_only_ever_lowers_the_lead() -> None:
    clips = clips_at(0.60)
    labels = torch.tensor([1])
    leads = []
    for queries in (1, 50, 200):
        attacked = square(
            brightness_logits, clips, labels, epsilon=0.05, queries=queries, generator=seeded()
        )
        leads.append(lead(brightness_logits(attacked), labels).item())
    assert leads[0] >= leads[1] >= leads[2]
    assert leads[0] > leads[2]
