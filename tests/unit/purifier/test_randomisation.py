"""What purification may draw at random: each form, its seeds, and its gradients."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from tests.parity import FIXTURE, load_pipeline
from tests.support.models import tiny_recogniser
from videopure.purifier import DefendedRecogniser, PurifySettings, Randomisation, VideoPurePipeline
from videopure.purifier.methods import VideoPure
from videopure.purifier.randomisation import make_generators

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")

FORMS = {
    "fresh": Randomisation(fresh_noise=True, eta=1.0),
    "ancestral": Randomisation(eta=1.0),
    "anchor": Randomisation(random_anchor=True),
    "steps": Randomisation(step_range=(0, 2)),
    "shift": Randomisation(max_shift=5),
}


@pytest.fixture(scope="module")
def pipeline() -> VideoPurePipeline:
    return load_pipeline(FIXTURE)


def clips(batch: int) -> Tensor:
    return torch.rand(batch, 3, 3, 16, 24, generator=torch.Generator().manual_seed(2))


def defend(pipeline: VideoPurePipeline, randomisation: Randomisation) -> DefendedRecogniser:
    # Guidance so weak that the signs in it, which rounding may flip, do not count.
    settings = PurifySettings(
        inversion_steps=1, guidance_reference=(32, 4, 2800, 2800), randomisation=randomisation
    )
    return DefendedRecogniser(pipeline, tiny_recogniser(3, (16, 24)), settings)


@pytest.mark.parametrize("form", FORMS)
def test_a_clip_follows_its_own_seed_and_nothing_else(
    pipeline: VideoPurePipeline, form: str
) -> None:
    defended = defend(pipeline, FORMS[form])
    video = clips(1).expand(6, -1, -1, -1, -1)
    with torch.no_grad():
        together = defended.candidates(video, seeds=[1, 1, 2, 3, 4, 5])
        alone = defended.candidates(video[:1], seeds=[3])[0]
    torch.testing.assert_close(together[0], together[1], rtol=0, atol=1e-5)
    assert together[3].shape == alone.shape
    assert (together[3] - alone).abs().mean().item() < 1e-4
    apart = [
        other.shape != together[0].shape or (other - together[0]).abs().mean().item() > 1e-3
        for other in together[2:]
    ]
    assert any(apart)


def test_without_seeds_every_generator_begins_anew() -> None:
    """Not even with those of the request before does one share its entropy."""
    made = [*make_generators(None, 2, CPU), *make_generators([None, 7, 7], 3, CPU)]
    begun = [generator.initial_seed() for generator in made]
    assert begun[3:] == [7, 7]
    assert len(set(begun)) == 4


def test_shifts_go_up_and_down_and_to_both_sides() -> None:
    drawn = Randomisation(max_shift=2).draw_shifts(100, make_generators(range(100), 100, CPU))
    assert {down for down, _ in drawn} == {right for _, right in drawn} == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize("form", FORMS)
def test_without_seeds_every_request_draws_anew(pipeline: VideoPurePipeline, form: str) -> None:
    defended = defend(pipeline, FORMS[form])
    seen = {
        tuple(vote.timestep for vote in verdict.votes) + tuple(verdict.probabilities.tolist())
        for verdict in defended.answer(clips(1).expand(8, -1, -1, -1, -1), votes="full").verdicts
    }
    assert len(seen) > 1


def test_nothing_is_drawn_by_default_nor_for_other_methods(pipeline: VideoPurePipeline) -> None:
    video = clips(1)
    plain = defend(pipeline, Randomisation())
    assert torch.equal(plain.purify(video, seeds=[1]), plain.purify(video, seeds=[2]))
    drawn = defend(pipeline, Randomisation(max_shift=3, step_range=(0, 2), eta=1.0))
    for method in ("ddim_inversion", "ddim", "ddpm"):
        ours, theirs = (
            defended.answer(video, method=method, inversion_steps=0, seeds=[4]).verdicts[0]  # type: ignore[arg-type]
            for defended in (drawn, plain)
        )
        assert torch.equal(ours.probabilities, theirs.probabilities)


def test_fresh_noise_is_shared_by_all_frames(pipeline: VideoPurePipeline) -> None:
    encoded = pipeline.encode(clips(1))
    schedule = pipeline.schedule(1)
    settings = PurifySettings(inversion_steps=1, randomisation=FORMS["fresh"])
    noisy = VideoPure(pipeline, clips(1), settings, torch.Generator().manual_seed(0)).invert(
        encoded
    )
    alpha = schedule.alpha(21)
    noise = (noisy - alpha**0.5 * encoded) / (1 - alpha) ** 0.5
    torch.testing.assert_close(noise, noise[:, :, :1].expand_as(noise), rtol=0, atol=1e-4)
    assert 0.7 < noise.std().item() < 1.3


def test_the_anchor_names_the_frame_whose_noise_all_get(pipeline: VideoPurePipeline) -> None:
    latents = pipeline.encode(clips(2))
    schedule = pipeline.schedule(1)
    first = pipeline.invert(latents, schedule)[-1]
    same = pipeline.invert(latents, schedule, anchor=torch.tensor([0, 2]))[-1]
    torch.testing.assert_close(same[0], first[0])
    assert (same[1] - first[1]).abs().max().item() > 1e-3


def test_eta_one_is_the_ancestral_step(pipeline: VideoPurePipeline) -> None:
    schedule = pipeline.schedule(1)
    latents, noise, fresh = torch.randn(3, 1, 4, 2, 2, 2)
    level = schedule.levels()[0]
    lowered = schedule.step_down(noise, level.timestep, latents, 1.0, fresh)
    x0 = (latents - (1 - level.alpha) ** 0.5 * noise) / level.alpha**0.5
    variance = (1 - level.alpha_next) / (1 - level.alpha) * (1 - level.alpha / level.alpha_next)
    expected = (
        level.alpha_next**0.5 * x0
        + (1 - level.alpha_next - variance) ** 0.5 * noise
        + variance**0.5 * fresh
    )
    torch.testing.assert_close(lowered, expected, rtol=1e-4, atol=1e-4)


def test_a_drawn_shift_is_undone(pipeline: VideoPurePipeline) -> None:
    """Decoding rolls every clip back by what it was rolled before it was encoded."""
    defended = defend(pipeline, FORMS["shift"])
    video = clips(3)
    ((_, group),) = defended._purifications(video, defended.settings, [1, 2, 3])
    with torch.no_grad():
        latents = pipeline.encode(group.clips)
        decoded, back = pipeline.decode(latents), group.decode(latents)
        some = group.decode(latents, torch.tensor([2]))
    found = []
    for k in range(3):
        for shift in product(range(-5, 6), repeat=2):
            if torch.equal(video[k].roll(shift, (2, 3)), group.clips[k]):
                found.append(shift)
                assert torch.equal(decoded[k], back[k].roll(shift, (2, 3)))
    assert len(found) == 3
    assert len(set(found)) > 1
    torch.testing.assert_close(some[0], back[2], rtol=0, atol=1e-5)


@pytest.mark.extended
def test_clips_of_different_t_are_answered_each_with_its_own(pipeline: VideoPurePipeline) -> None:
    defended = defend(pipeline, FORMS["steps"])
    video = clips(1).expand(8, -1, -1, -1, -1)
    verdicts = defended.answer(video, seeds=range(8), votes="full", keep_purified=True).verdicts
    counts = {verdict.of for verdict in verdicts}
    assert counts <= {2, 3, 4}
    assert len(counts) > 1
    for verdict in verdicts:
        fixed = replace(defended.settings, inversion_steps=verdict.of - 2)
        alone = DefendedRecogniser(
            pipeline, defended.recogniser, replace(fixed, randomisation=Randomisation())
        ).answer(video[:1], votes="full", keep_purified=True)
        expected, purified = alone.verdicts[0].purified, verdict.purified
        assert expected is not None
        assert purified is not None
        assert (purified - expected).abs().mean().item() < 1e-3
    with pytest.raises(ValueError, match="different numbers of votes"):
        defended(video, seeds=range(8))


@pytest.mark.parametrize("form", FORMS)
def test_votes_with_seeds_are_the_answers_and_differentiable(
    pipeline: VideoPurePipeline, form: str
) -> None:
    defended = defend(pipeline, FORMS[form])
    video = clips(2).requires_grad_()
    votes = defended.votes(video, seeds=[1, 2])
    verdicts = defended.answer(video.detach(), votes="full", seeds=[1, 2]).verdicts
    for ballot, verdict in zip(votes, verdicts, strict=True):
        mean = ballot.softmax(1).mean(0).detach()
        torch.testing.assert_close(mean, verdict.probabilities, rtol=0, atol=0.02)
    torch.cat(votes).sum().backward()
    assert video.grad is not None
    assert video.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": 1.5}, r"eta must be in 0\.\.1, got 1\.5"),
        ({"max_shift": -1}, "max_shift must be 0 pixels or more, got -1"),
        ({"step_range": (3, 1)}, r"two ascending counts, got \(3, 1\)"),
        ({"fresh_noise": True, "random_anchor": True}, "random_anchor must be False"),
    ],
)
def test_bad_values_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Randomisation(**arguments)  # type: ignore[arg-type]


def test_the_pipeline_refuses_what_only_single_clips_can_draw(pipeline: VideoPurePipeline) -> None:
    with pytest.raises(ValueError, match=r"step_range and randomisation\.max_shift are"):
        pipeline(clips(1), randomisation=FORMS["shift"])
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    same = clips(1).expand(2, -1, -1, -1, -1)
    out = pipeline(same, inversion_steps=1, randomisation=FORMS["fresh"], generator=seeds)
    assert (out.candidates[0] - out.candidates[1]).abs().mean().item() > 1e-3
