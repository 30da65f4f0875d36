"""All defences: every defence answers, attacks have something to hold on to, ablations ablate."""

import pytest
import torch
from torch import Tensor

from tests.support.defences import DEFENCES
from videopure.evaluation.attacks.losses import soft_vote
from videopure.evaluation.defences.base import DefenceAnswer, Purified
from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.defences.purifiers import (
    ALL_FRAMES,
    DDIM,
    FIRST,
    LAST,
    UNGUIDED,
    VIDEOPURE,
    fast_forms,
    randomised_forms,
)
from videopure.purifier import DefendedRecogniser, PurifySettings
from videopure.purifier.schedule import predict_x0

pytestmark = pytest.mark.unit


def clips(batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, 3, 16, 24, generator=torch.Generator().manual_seed(3))


@pytest.mark.extended
@pytest.mark.parametrize("name", DEFENCES)
def test_every_defence_answers_by_the_majority_of_its_votes(name: str) -> None:
    defence = DEFENCES[name]
    answers = defence.answer(clips(), [1, 2])
    with torch.no_grad():
        votes = defence.votes(clips(), [1, 2])
        shown = defence.candidates(clips(), [1, 2])
    for answer, ballot, candidates in zip(answers, votes, shown, strict=True):
        assert len(ballot) == len(candidates) >= len(answer.votes) >= 1
        counts = ballot.argmax(1).bincount(minlength=4)
        assert answer.label_id == counts.argmax()
        assert answer.votes == tuple(ballot.argmax(1).tolist()[: len(answer.votes)])


@pytest.mark.extended
@pytest.mark.parametrize("name", DEFENCES)
def test_seeds_matter_where_and_only_where_something_is_drawn(name: str) -> None:
    defence = DEFENCES[name]
    one = clips(1).expand(4, -1, -1, -1, -1)
    with torch.no_grad():
        again = [soft_vote(defence.votes(clips(1), [5])) for _ in range(2)]
        drawn = soft_vote(defence.votes(one, [1, 2, 3, 4]))
    assert torch.equal(*again)
    differs = (drawn - drawn[:1]).abs().max().item() > 1e-3
    assert differs == defence.randomised


@pytest.mark.extended
@pytest.mark.parametrize("name", DEFENCES)
def test_every_defence_offers_a_gradient(name: str) -> None:
    defence = DEFENCES[name]
    votes = defence.votes if defence.exact else defence.bpda()
    video = clips().requires_grad_()
    soft_vote(votes(video, [1, 2])).sum().backward()
    assert video.grad is not None
    assert video.grad.flatten(1).abs().sum(1).min() > 0


def test_videopure_answers_as_it_is_served() -> None:
    defence = DEFENCES[VIDEOPURE]
    assert isinstance(defence, Purified)
    served = defence.defended.answer(clips()).verdicts
    for answer, verdict in zip(defence.answer(clips(), [1, 2]), served, strict=True):
        assert answer.label_id == verdict.label_id
        assert answer.suspicion == verdict.suspicion
        assert answer.timesteps == tuple(vote.timestep for vote in verdict.votes)


def test_no_defence_is_the_bare_recogniser() -> None:
    defence = DEFENCES[NONE]
    (votes,) = torch.stack(list(defence.votes(clips(), [0, 0]))).unbind(1)
    torch.testing.assert_close(votes, defence.recogniser.logits(clips()))


@pytest.mark.extended
def test_ablations_take_away_what_they_say() -> None:
    """Against the parts of the pipeline, called one by one."""
    full, unguided, inverted, first, last = (
        DEFENCES[name] for name in (VIDEOPURE, UNGUIDED, ALL_FRAMES, FIRST, LAST)
    )
    assert isinstance(full, Purified)
    pipeline = full.defended.pipeline
    schedule = pipeline.schedule(0)
    (level,) = schedule.levels()
    with torch.no_grad():
        encoded = pipeline.encode(clips())
        noisy = pipeline.invert(encoded, schedule)[-1]
        noise = pipeline.predict_noise(noisy, level.timestep)
        x0 = pipeline.decode(predict_x0(noisy, noise, level.alpha))
        final = pipeline.decode(schedule.step_down(noise, level.timestep, noisy))
        plain = torch.stack(list(unguided.candidates(clips(), [0, 0])))
        torch.testing.assert_close(plain, torch.stack((x0, final), 1), rtol=0, atol=1e-4)
        everything = torch.stack(list(full.candidates(clips(), [0, 0])))
        for alone, at in ((first, slice(0, 1)), (last, slice(-1, None))):
            shown = torch.stack(list(alone.candidates(clips(), [0, 0])))
            torch.testing.assert_close(shown, everything[:, at])
        others = torch.stack(list(inverted.candidates(clips(), [0, 0])))
    assert (plain - everything).abs().max() > 1e-3
    assert (others - everything).abs().max() > 1e-3


def test_forms_that_draw_include_t_around_the_archives() -> None:
    assert any(f.step_range == (4, 7) for f in randomised_forms(PurifySettings()).values())
    zero = randomised_forms(PurifySettings(inversion_steps=0))
    assert any(form.step_range == (0, 2) for form in zero.values())


@pytest.mark.extended
def test_candidates_alone_share_what_is_computed_of_the_same_clips_and_of_no_others() -> None:
    """Answers to one batch after another are those of the votes, whoever was asked before."""
    for seed in (1, 2):
        video = torch.rand(6, 3, 3, 16, 24, generator=torch.Generator().manual_seed(seed))
        for name in (FIRST, LAST):
            with torch.no_grad():
                votes = DEFENCES[name].votes(video, [0] * 6)
            answers = [a.label_id for a in DEFENCES[name].answer(video, [0] * 6)]
            assert answers == [int(ballot.argmax()) for ballot in votes]


def test_methods_at_more_steps_call_the_unet_as_often_as_videopure() -> None:
    more = DEFENCES[f"{DDIM} at t=1"]
    counted = []
    for defence in (more, DEFENCES[VIDEOPURE]):
        assert isinstance(defence, Purified)
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        hook = defence.defended.pipeline.unet.register_forward_hook(count)
        with torch.no_grad():
            defence.votes(clips(1), [0])
        hook.remove()
        counted.append(calls)
    assert counted[0] == counted[1] == 2


def test_alarms_are_those_of_the_calibrated_threshold() -> None:
    bare = DEFENCES[VIDEOPURE]
    assert isinstance(bare, Purified)
    settings = bare.defended.settings.override(suspicion_threshold=0.5)
    served = Purified("x", DefendedRecogniser(bare.defended.pipeline, bare.recogniser, settings))
    assert [served.alarms(DefenceAnswer(0, suspicion=s)) for s in (0.4, 0.5, 0.6)] == [
        False,
        False,
        True,
    ]
    assert not bare.alarms(DefenceAnswer(0, suspicion=1.0))
    assert not DEFENCES[NONE].alarms(DefenceAnswer(0))


def test_one_step_fewer_is_tried_where_there_is_one() -> None:
    fewer = [f["inversion_steps"] for f in fast_forms(PurifySettings()).values() if len(f) == 1]
    assert fewer == [4]
    none_left = fast_forms(PurifySettings(inversion_steps=0)).values()
    assert all("speed" in form for form in none_left)
