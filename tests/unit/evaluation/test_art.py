"""ART's attacks on what is served, and ours beside ART's."""

from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent

from tests.parity import FIXTURE, load_pipeline
from tests.support.models import tiny_recogniser
from videopure.evaluation.art import VideoPurePreprocessor, art_classifier, art_defence
from videopure.evaluation.attacks.losses import cross_entropy, gradient, label_loss, soft_vote
from videopure.evaluation.attacks.pgd import pgd
from videopure.purifier import DefendedRecogniser, PurifySettings, Randomisation

pytestmark = [pytest.mark.unit, pytest.mark.extended]

EPSILON = 8 / 255


DEFENDED = DefendedRecogniser(
    load_pipeline(FIXTURE), tiny_recogniser(3, (16, 24)), PurifySettings(inversion_steps=0)
)


def clips(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, 3, 16, 24, generator=generator) * 0.8 + 0.1


def attack(classifier: Any, steps: int) -> ProjectedGradientDescent:
    return ProjectedGradientDescent(
        classifier, eps=EPSILON, eps_step=EPSILON / 4, max_iter=steps, verbose=False
    )


@pytest.mark.parametrize("layout", ["NCTHW", "NTCHW"])
def test_our_pgd_is_that_of_art(layout: Any) -> None:
    """Without a random start both walk the very same way, on a recogniser without defence."""
    recogniser, video = tiny_recogniser(3, (16, 24)), clips(6)
    labels = recogniser.logits(video).argmax(1)
    array = video.transpose(1, 2) if layout == "NCTHW" else video
    theirs = attack(art_classifier(recogniser, layout=layout), steps=10).generate(
        array.numpy(), y=labels.numpy()
    )
    loss = label_loss(recogniser.logits, labels)
    ours = pgd(loss, video, epsilon=EPSILON, steps=10, step_size=EPSILON / 4, start=video)
    found = torch.from_numpy(theirs)
    found = found.transpose(1, 2) if layout == "NCTHW" else found
    # Where the gradient is nearly zero its sign is chance.
    assert ((ours - found).abs() > 1e-5).float().mean() < 1e-3
    assert loss(ours).mean() >= loss(found).mean() * 0.999
    assert loss(found).mean() > loss(video).mean()


@pytest.mark.parametrize("kind", ["exact", "bpda"])
def test_art_attacks_a_recogniser_behind_the_preprocessor(kind: Any) -> None:
    defended, video = DEFENDED, clips()
    guard = VideoPurePreprocessor(defended, gradient=kind, layout="NTCHW")
    classifier = art_classifier(defended.recogniser, layout="NTCHW", preprocessor=guard)
    with torch.no_grad():
        last = torch.stack([c[-1] for c in defended.candidates(video)])
        expected = defended.recogniser.logits(last)
    np.testing.assert_allclose(classifier.predict(video.numpy()), expected.numpy(), atol=1e-3)
    labels = expected.argmax(1)
    attacked = attack(classifier, steps=2).generate(video.numpy(), y=labels.numpy())
    assert 0 < np.abs(attacked - video.numpy()).max() <= EPSILON + 1e-6
    if kind == "bpda":  # on random weights the identity is no good guess
        return
    with torch.no_grad():
        before, after = (
            cross_entropy(torch.from_numpy(classifier.predict(x)), labels).mean()
            for x in (video.numpy(), attacked)
        )
    assert after > before


@pytest.mark.parametrize("kind", ["exact", "bpda"])
def test_gradients_are_those_that_were_asked_for(kind: Any) -> None:
    defended, video = DEFENDED, clips()
    labels = torch.tensor([0, 2])
    guard = VideoPurePreprocessor(defended, gradient=kind, layout="NTCHW")
    classifier = art_classifier(defended.recogniser, layout="NTCHW", preprocessor=guard)
    found = torch.from_numpy(classifier.loss_gradient(video.numpy(), np.eye(4)[labels]))

    def exact(x: torch.Tensor) -> torch.Tensor:
        shown = torch.stack([c[-1] for c in defended.candidates(x)])
        return cross_entropy(defended.recogniser.logits(shown), labels)

    def straight(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            shown = torch.stack([c[-1] for c in defended.candidates(x)])
        return cross_entropy(defended.recogniser.logits(x + (shown - x).detach()), labels)

    losses = {"exact": exact, "bpda": straight}
    # ART takes the mean over the batch.
    expected = {name: gradient(loss, video)[1] / len(video) for name, loss in losses.items()}
    torch.testing.assert_close(found, expected[kind], rtol=1e-3, atol=1e-6)
    assert (expected["exact"] - expected["bpda"]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["exact", "bpda"])
def test_the_whole_defence_votes(kind: Any) -> None:
    defended, video = DEFENDED, clips(1)
    classifier = art_defence(defended, gradient=kind)
    array = video.transpose(1, 2).numpy()
    with torch.no_grad():
        expected = soft_vote(defended.votes(video))
    np.testing.assert_allclose(classifier.predict(array), expected.numpy(), atol=1e-3)
    labels = expected.argmax(1)
    attacked = attack(classifier, steps=1).generate(array, y=labels.numpy())
    if kind == "bpda":
        return
    after = torch.from_numpy(classifier.predict(attacked))
    assert cross_entropy(after, labels).mean() > cross_entropy(expected, labels).mean()


def test_a_seed_makes_what_is_drawn_the_same() -> None:
    settings = PurifySettings(
        inversion_steps=0, randomisation=Randomisation(fresh_noise=True, eta=1.0)
    )
    defended = DefendedRecogniser(DEFENDED.pipeline, DEFENDED.recogniser, settings)
    video = clips(1)
    array = video.numpy()

    def purified(seed: int | None) -> Any:
        return VideoPurePreprocessor(defended, layout="NTCHW", seed=seed)(array)[0]

    np.testing.assert_array_equal(purified(5), purified(5))
    assert np.abs(purified(5) - purified(6)).max() > 1e-3
    assert np.abs(purified(None) - purified(None)).max() > 1e-3


def test_what_does_not_fit_is_named() -> None:
    defended = DEFENDED
    with pytest.raises(ValueError, match="gradient must be one of exact, bpda, got 'none'"):
        VideoPurePreprocessor(defended, gradient="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layout must be one of NCTHW, NTCHW, got 'NHWC'"):
        art_classifier(defended.recogniser, layout="NHWC")  # type: ignore[arg-type]
    guard = VideoPurePreprocessor(defended)
    with pytest.raises(ValueError, match=r"must be NCTHW with 3 channels, got \[1, 4, 3, 16, 24\]"):
        guard(np.zeros((1, 4, 3, 16, 24), dtype=np.float32))
