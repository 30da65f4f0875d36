"""A tiny recogniser behind a tiny purifier: votes, verdicts, batches."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.parity import FIXTURE, load_pipeline
from tests.support.models import TinyNetwork
from videopure.purifier import (
    DefendedRecogniser,
    NetworkRecogniser,
    PurifySettings,
    suspicion_score,
)

pytestmark = pytest.mark.unit

SIZE, FRAMES, CLASSES = (16, 16), 3, 4


@pytest.fixture(scope="module")
def defended() -> DefendedRecogniser:
    recogniser = NetworkRecogniser(TinyNetwork(CLASSES), "tiny", FRAMES, SIZE, list("abcd"))
    return DefendedRecogniser(load_pipeline(FIXTURE), recogniser, PurifySettings(inversion_steps=2))


def clips(batch: int) -> Tensor:
    return torch.rand(batch, FRAMES, 3, *SIZE, generator=torch.Generator().manual_seed(2))


def test_verdict_is_the_vote_over_the_decoded_candidates(defended: DefendedRecogniser) -> None:
    video = clips(3)
    out = defended.pipeline(video, inversion_steps=2)
    full = defended.answer(video, votes="full")
    with torch.no_grad():
        bare = defended.recogniser.logits(video).softmax(1)
        votes = (
            defended.recogniser.logits(torch.flatten(out.candidates, 0, 1))
            .softmax(1)
            .unflatten(0, (3, 4))
        )
    for clip, verdict in enumerate(full.verdicts):
        assert verdict.of == len(verdict.votes) == 4
        assert [vote.timestep for vote in verdict.votes] == out.timesteps
        assert [vote.label_id for vote in verdict.votes] == votes[clip].argmax(1).tolist()
        torch.testing.assert_close(verdict.probabilities, votes[clip].mean(0), rtol=0, atol=1e-5)
        torch.testing.assert_close(verdict.undefended, bare[clip], rtol=0, atol=1e-5)
        assert verdict.suspicion == pytest.approx(
            suspicion_score(bare[clip], votes[clip]), abs=1e-5
        )
    assert set(full.timing_ms) == {"flow", "encode", "invert", "denoise", "vote"}


def test_early_votes_give_the_label_of_the_full_vote_with_fewer_votes(
    defended: DefendedRecogniser,
) -> None:
    video = clips(6)
    full, early = defended.answer(video, votes="full"), defended.answer(video, votes="early")
    labels = [verdict.label_id for verdict in full.verdicts]
    assert [verdict.label_id for verdict in early.verdicts] == labels
    for few, all_votes in zip(early.verdicts, full.verdicts, strict=True):
        assert few.of == 4
        assert [v.label_id for v in few.votes] == [
            v.label_id for v in all_votes.votes[: len(few.votes)]
        ]
    assert sum(len(v.votes) for v in early.verdicts) < sum(len(v.votes) for v in full.verdicts)


def test_the_purified_clip_is_the_last_candidate_however_early_the_votes_are_decided(
    defended: DefendedRecogniser,
) -> None:
    video = clips(3)
    with torch.no_grad():
        *_, before, last = defended.pipeline(video, inversion_steps=2).candidates.unbind(1)
    for votes in ("early", "full"):
        verdicts = defended.answer(video, votes=votes, keep_purified=True).verdicts
        purified = torch.stack([v.purified for v in verdicts if v.purified is not None])
        torch.testing.assert_close(purified, last, rtol=0, atol=1e-4)
    assert (before - last).abs().mean() > 1e-3  # what a vote less would have given


def test_clips_answer_alike_alone_and_in_a_batch(defended: DefendedRecogniser) -> None:
    video = clips(3)
    together = defended.answer(video).verdicts
    for k, verdict in enumerate(together):
        alone = defended.answer(video[k : k + 1]).verdicts[0]
        assert alone.label_id == verdict.label_id
        assert len(alone.votes) == len(verdict.votes)
        # Rounding differs with the batch size and may flip a sign() in the guidance.
        torch.testing.assert_close(alone.probabilities, verdict.probabilities, rtol=0, atol=0.02)


def test_unpurified_answer_is_the_bare_recogniser(defended: DefendedRecogniser) -> None:
    out = defended.answer(clips(2), purify=False)
    for verdict in out.verdicts:
        assert verdict.votes == ()
        assert verdict.of == 0
        assert verdict.suspicion is None
        assert verdict.label_id == verdict.undefended.argmax()
        assert torch.equal(verdict.probabilities, verdict.undefended)


@pytest.mark.parametrize("method", ["ddim_inversion", "ddim", "ddpm"])
def test_other_methods_cast_one_vote(defended: DefendedRecogniser, method: str) -> None:
    seeds = [1, 2]
    out = defended.answer(clips(2), method=method, inversion_steps=0, seeds=seeds)  # type: ignore[arg-type]
    again = defended.answer(clips(2), method=method, inversion_steps=0, seeds=seeds)  # type: ignore[arg-type]
    for verdict, same in zip(out.verdicts, again.verdicts, strict=True):
        assert verdict.of == len(verdict.votes) == 1
        assert torch.equal(verdict.probabilities, same.probabilities)


def test_forward_is_the_votes_and_differentiable(defended: DefendedRecogniser) -> None:
    video = clips(2).requires_grad_()
    logits = defended(video)
    assert logits.shape == (2, 4, CLASSES)
    full = defended.answer(video.detach(), votes="full").verdicts
    assert logits.argmax(2).tolist() == [[v.label_id for v in verdict.votes] for verdict in full]
    logits.sum().backward()
    assert video.grad is not None
    assert video.grad.abs().sum() > 0


def test_purify_shows_the_last_candidate(defended: DefendedRecogniser) -> None:
    video = clips(2)
    out = defended.pipeline(video, inversion_steps=2)
    torch.testing.assert_close(defended.purify(video), out.candidates[:, -1], rtol=0, atol=1e-5)


def test_settings_override_only_what_is_given() -> None:
    settings = PurifySettings()
    assert settings.override(inversion_steps=None, method=None) == settings
    assert settings.override(inversion_steps=0) == replace(settings, inversion_steps=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "method must be one of .*'magic'"),
        ({"votes": "some"}, "votes must be 'early' or 'full', got 'some'"),
        ({"inversion_steps": 99}, "inversion_steps must be in"),
        ({"seeds": [1]}, r"seeds must have one entry per clip \(2\), got 1"),
    ],
)
def test_bad_arguments_are_named(
    defended: DefendedRecogniser, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        defended.answer(clips(2), **change)  # type: ignore[arg-type]


def test_a_recogniser_that_does_not_fit_is_refused(defended: DefendedRecogniser) -> None:
    odd = NetworkRecogniser(TinyNetwork(CLASSES), "odd", FRAMES, (20, 16), list("abcd"))
    with pytest.raises(ValueError, match=r"'odd' takes frames of \(20, 16\).*multiples of 8"):
        DefendedRecogniser(defended.pipeline, odd)
    still = NetworkRecogniser(TinyNetwork(CLASSES), "still", 1, SIZE, list("abcd"))
    with pytest.raises(ValueError, match="'still' takes 1 frame"):
        DefendedRecogniser(defended.pipeline, still)
