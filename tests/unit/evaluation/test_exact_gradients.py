"""Gradients through the whole defence: exact ones, BPDA, and expectations over what is drawn."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.parity import FIXTURE, load_pipeline
from tests.support.models import tiny_recogniser
from videopure.evaluation.attacks.eot import EOTLoss
from videopure.evaluation.attacks.losses import (
    bpda,
    counted,
    cross_entropy,
    evasion,
    gradient,
    lead,
    soft_vote,
)
from videopure.evaluation.attacks.pgd import pgd
from videopure.purifier import DefendedRecogniser, PurifySettings, Randomisation

pytestmark = [pytest.mark.unit, pytest.mark.extended]

FORMS = {
    "published": Randomisation(),
    "fresh": Randomisation(fresh_noise=True, eta=1.0),
    "all": Randomisation(eta=1.0, random_anchor=True, step_range=(0, 1), max_shift=3),
}
LABELS = torch.tensor([0, 2])


def defend(randomisation: Randomisation, dtype: torch.dtype = torch.float32) -> DefendedRecogniser:
    pipeline = load_pipeline(FIXTURE)
    recogniser = tiny_recogniser(3, (16, 24))
    pipeline.to(dtype)
    settings = PurifySettings(inversion_steps=1, randomisation=randomisation)
    return DefendedRecogniser(pipeline, recogniser.to(dtype), settings)


def clips(dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(2, 3, 3, 16, 24, generator=generator).to(dtype)


def loss_of(defended: DefendedRecogniser, video: Tensor, seeds: list[int]) -> Tensor:
    return cross_entropy(soft_vote(defended.votes(video, seeds)), LABELS)


@pytest.mark.parametrize("form", FORMS)
def test_exact_gradients_are_those_of_finite_differences(form: str) -> None:
    """Float64, through encoding, inversion, guidance, denoising, decoding and the soft vote."""
    defended = defend(FORMS[form], torch.float64)
    defended.pipeline.gradient_checkpointing = True
    video, seeds = clips(torch.float64) * 0.9 + 0.05, [3, 4]
    _, grad = gradient(lambda x: loss_of(defended, x, seeds), video)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = torch.randn(video.shape, generator=generator, dtype=torch.float64)
        expected = (grad * direction).flatten(1).sum(1)
        step = 1e-8
        with torch.no_grad():
            above = loss_of(defended, video + step * direction, seeds)
            below = loss_of(defended, video - step * direction, seeds)
        torch.testing.assert_close((above - below) / (2 * step), expected, rtol=1e-5, atol=1e-7)
    assert grad.abs().max() > 0


def test_checkpointing_changes_no_gradient_and_keeps_fewer_activations() -> None:
    defended, video = defend(FORMS["published"]), clips()
    kept: dict[bool, int] = {}
    grads: dict[bool, Tensor] = {}
    for checkpointing in (False, True):
        defended.pipeline.gradient_checkpointing = checkpointing
        kept[checkpointing] = 0

        def count(tensor: Tensor, on: bool = checkpointing) -> Tensor:
            kept[on] += tensor.nbytes
            return tensor

        leaf = video.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = loss_of(defended, leaf, [1, 2]).sum()
        (grads[checkpointing],) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(grads[True], grads[False], rtol=1e-5, atol=1e-7)
    assert kept[True] * 10 < kept[False]


def test_bpda_takes_the_mean_gradient_of_the_candidates() -> None:
    defended, video = defend(FORMS["published"]), clips()
    votes = bpda(defended.candidates, defended.recogniser.logits)
    leaf = video.clone().requires_grad_()
    sum(cross_entropy(v, LABELS[k].expand(3)).mean() for k, v in enumerate(votes(leaf, [0, 0]))
        ).backward()  # fmt: skip
    with torch.no_grad():
        candidates = defended.candidates(video, [0, 0])
    for k, shown in enumerate(candidates):
        apart = shown.clone().requires_grad_()
        cross_entropy(defended.recogniser.logits(apart), LABELS[k].expand(3)).mean().backward()
        assert apart.grad is not None
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad[k], apart.grad.sum(0), rtol=1e-3, atol=1e-6)


def test_bpda_votes_are_the_true_ones() -> None:
    defended, video = defend(FORMS["fresh"]), clips()
    votes = bpda(defended.candidates, defended.recogniser.logits)(video, [5, 6])
    with torch.no_grad():
        expected = defended.votes(video, [5, 6])
    for ours, theirs in zip(votes, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_an_eot_loss_is_the_mean_over_fresh_draws() -> None:
    seen: list[list[int]] = []

    def votes(video: Tensor, seeds: Sequence[int]) -> list[Tensor]:
        seen.append(list(seeds))
        factors = torch.tensor([seed % 7 for seed in seeds])
        return list((video.flatten(1).sum(1) * factors)[:, None, None])

    def mean(draws: int = 3) -> EOTLoss:
        generator = torch.Generator().manual_seed(0)
        first = torch.tensor([0, 0])
        return EOTLoss(
            votes, lambda _, v: torch.cat(list(v))[:, 0], first, draws=draws, generator=generator
        )

    eot = mean()
    values, grad = gradient(eot, clips())
    assert len({tuple(seeds) for seeds in seen}) == 3
    factor = torch.tensor([[s % 7 for s in seeds] for seeds in seen]).float().mean(0)
    torch.testing.assert_close(grad, factor[:, None, None, None, None].expand_as(grad))
    torch.testing.assert_close(values, clips().flatten(1).sum(1) * factor)
    gradient(eot, clips())
    assert len({tuple(seeds) for seeds in seen}) == 6
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        mean(0)


def test_an_eot_loss_asks_about_fooled_clips_alone_and_marks_those_that_are_done() -> None:
    """Of three clips the first is right, the second is wrong, the third is wrong and refused."""
    logits = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]])
    labels, asked = torch.tensor([0, 0, 0]), []

    def votes(video: Tensor, seeds: Sequence[int]) -> list[Tensor]:
        return list(logits + 0 * video.sum())

    def reached(video: Tensor, rows: Tensor) -> Tensor:
        asked.append(rows.tolist())
        assert len(video) == len(rows)
        assert not video.requires_grad
        return rows == 1

    value = clips()[[0, 1, 0]]
    eot = EOTLoss(votes, lambda v, b: v.flatten(1).sum(1), labels, reached=reached)
    values, grad = gradient(eot, value)
    assert asked == [[1, 2]]
    assert torch.isinf(values).tolist() == [False, True, False]
    # A clip that is done moves no more, the others as before.
    assert grad[1].abs().max() == 0
    torch.testing.assert_close(grad[[0, 2]], torch.ones_like(value[[0, 2]]))


def test_votes_are_counted_as_they_are_served() -> None:
    """Ties go to the lower class; a sure minority does not win."""
    votes = [torch.tensor([[0.0, 0.1], [0.2, 0.0]]), torch.tensor([[0.0, 1.0]] * 2 + [[99.0, 0.0]])]
    assert counted(votes).tolist() == [0, 1]


def test_soft_vote_is_the_mean_probability() -> None:
    votes = [torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 3.0]])]
    expected = torch.stack([ballot.softmax(1).mean(0) for ballot in votes])
    torch.testing.assert_close(soft_vote(votes).exp(), expected)


def test_evasion_asks_for_the_label_first_and_for_low_suspicion_then() -> None:
    labels = torch.tensor([0])
    sure_right, sure_wrong = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    undecided = torch.tensor([[0.1, 0.0]])
    order = [
        evasion(sure_right, [sure_right], labels),
        evasion(sure_right, [undecided], labels),
        evasion(sure_right, [sure_wrong], labels),  # wrong, and suspicious
        evasion(sure_wrong, [sure_wrong], labels),  # wrong, and nobody sees it
    ]
    values = torch.cat(order).tolist()
    assert values == sorted(values)
    assert len(set(values)) == 4
    assert values[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("form", ["published", "fresh"])
def test_an_unbounded_attack_leaves_nothing(form: str) -> None:
    defended, video = defend(FORMS[form]), clips()
    labels = torch.tensor([v.label_id for v in defended.answer(video, seeds=[1, 2]).verdicts])
    draws = torch.Generator().manual_seed(0)

    start = torch.rand(video.shape, generator=draws)
    mean = EOTLoss(
        defended.votes, lambda _, v: -lead(soft_vote(v), labels), labels, generator=draws
    )
    attacked = pgd(mean, video, epsilon=1.0, steps=12, step_size=0.2, start=start)
    answers = defended.answer(attacked, seeds=[7, 8]).verdicts
    assert all(a.label_id != t for a, t in zip(answers, labels.tolist(), strict=True))
