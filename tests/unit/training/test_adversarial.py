"""Adversarial training at tiny size: what it reaches, what it leaves alone, how it goes on."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.bright_clips import BrightClips
from tests.support.models import tiny_recogniser
from tests.support.pipelines import save_patch_pipeline
from videopure.purifier import (
    DefendedRecogniser,
    OneLook,
    ProgramRecogniser,
    PurifySettings,
    VideoPurePipeline,
)
from videopure.purifier.recognisers.config import RecogniserConfig
from videopure.training.adversarial import AdversarialTrainer, HardenRecipe, _vote_loss
from videopure.training.loop import train_steps

pytestmark = pytest.mark.unit

FRAMES, SIZE = 2, (16, 16)
RECIPE = HardenRecipe(
    train="recogniser",
    clips=160,
    batch=8,
    learning_rate=1e-2,
    epsilon=8.0,
    validate_every=10,
    validation_clips=16,
    validation_epsilon=8.0,
    validation_steps=5,
    average=0.9,
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patch_pipeline(tmp_path_factory.mktemp("patch") / "pipeline")


def trainer(folder: Path, recipe: HardenRecipe, *, labelled: bool = True) -> AdversarialTrainer:
    torch.manual_seed(0)
    pipeline = VideoPurePipeline.from_pretrained(folder, dtype=torch.float32)
    look = OneLook(entry="plain")  # one call of the network
    settings = PurifySettings(inversion_steps=1, method="one_look", one_look=look)
    defended = DefendedRecogniser(pipeline, tiny_recogniser(FRAMES, SIZE), settings)
    clips = BrightClips(FRAMES, SIZE, labelled=labelled)
    return AdversarialTrainer(defended, clips, recipe, PartialState(cpu=True))


def run(training: AdversarialTrainer, checkpoint: Path, steps: int | None = None) -> None:
    total = training.recipe.steps if steps is None else steps
    train_steps("hardening", total, training.step, training.parts, checkpoint)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_hardened_recogniser_holds_what_it_lost_before(pipeline: Path, tmp_path: Path) -> None:
    training = trainer(pipeline, RECIPE)
    unet = weights(training.defended.pipeline.unet)
    before = training.validate()
    run(training, tmp_path / "checkpoint.pt")
    training.best.restore(training.networks)
    after = training.validate()
    assert before.attacked <= 0.5
    assert after.attacked >= 0.9
    assert after == training.best.found
    assert same(unet, weights(training.defended.pipeline.unet))
    assert not training.defended.training
    assert not any(p.requires_grad for p in training.defended.parameters())


def test_a_hardened_purifier_leaves_the_recogniser_as_it_is(pipeline: Path, tmp_path: Path) -> None:
    training = trainer(pipeline, replace(RECIPE, train="purifier"), labelled=False)
    recogniser = weights(training.defended.recogniser)
    before = training.validate()
    run(training, tmp_path / "checkpoint.pt")
    training.best.restore(training.networks)
    assert training.validate().attacked >= before.attacked + 0.3
    assert same(recogniser, weights(training.defended.recogniser))


def test_without_labels_the_first_answers_are_held_on_to(pipeline: Path, tmp_path: Path) -> None:
    training = trainer(pipeline, RECIPE, labelled=False)
    clips, _ = BrightClips(FRAMES, SIZE).batch(12, torch.Generator().manual_seed(5))
    with torch.no_grad():
        answers = training.defended.recogniser.logits(clips).argmax(1)
    run(training, tmp_path / "checkpoint.pt", steps=3)
    nn.init.zeros_(training.defended.recogniser.network.head.weight)  # it may say what it likes now
    assert torch.equal(training._targets(clips, None), answers)
    assert len(answers.unique()) > 1


def test_a_resumed_run_ends_like_an_uninterrupted_one(pipeline: Path, tmp_path: Path) -> None:
    whole, first = trainer(pipeline, RECIPE), trainer(pipeline, RECIPE)
    run(whole, tmp_path / "whole.pt", steps=12)
    run(first, tmp_path / "parts.pt", steps=7)
    second = trainer(pipeline, RECIPE)
    run(second, tmp_path / "parts.pt", steps=12)
    assert same(weights(whole.networks), weights(second.networks))
    assert whole.best.found == second.best.found
    assert whole.best.step == second.best.step == 10


def test_training_returns_to_its_best_state_when_it_collapses(
    pipeline: Path, tmp_path: Path
) -> None:
    training = trainer(pipeline, RECIPE)
    run(training, tmp_path / "checkpoint.pt")
    best = copy.deepcopy(training.best.state_dict()["weights"])
    for network in (training.networks, training._mean.network):  # forgets everything
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
    reported: list[str] = []
    training._report = reported.append
    training._review(99)
    assert same(best, weights(training.networks))
    assert same(best, weights(training._mean.network))
    assert training.best.step <= RECIPE.steps
    assert reported[-1] == f"collapsed: back to step {training.best.step}"


def test_the_attack_inside_goes_through_the_purifier(pipeline: Path) -> None:
    training = trainer(pipeline, RECIPE)
    calls: list[int] = []
    training.defended.pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    clips, labels = BrightClips(FRAMES, SIZE).batch(4, torch.Generator().manual_seed(5))
    assert labels is not None
    attacked = training._attack(clips, labels, 4 / 255, 3, torch.Generator().manual_seed(6))
    assert len(calls) == 3
    assert 3 / 255 < (attacked - clips).abs().max() <= 4 / 255 + 1e-6
    with torch.no_grad():
        loss = [F.cross_entropy(training.defended(x)[:, 0], labels) for x in (clips, attacked)]
    assert loss[1] > loss[0]


def test_the_control_is_trained_without_the_purifier(pipeline: Path) -> None:
    training = trainer(pipeline, replace(RECIPE, bare=True))
    calls: list[int] = []
    training.defended.pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    before = weights(training.networks)
    training.step(0)
    found = training.validate()
    assert not calls
    assert not same(before, weights(training.networks))
    clips, labels = BrightClips(FRAMES, SIZE).validation(16)
    with torch.no_grad():
        answers = training.defended.recogniser.logits(clips).argmax(1)
    assert labels is not None
    assert found.clean == pytest.approx(float(answers.eq(labels).float().mean()))


def test_every_vote_counts_in_the_loss() -> None:
    votes = torch.tensor([[[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]])
    labels = torch.tensor([1])
    by_hand = [math.log(1 + math.exp(-2)), math.log(1 + math.e), math.log(2)]
    assert _vote_loss(votes, labels).tolist() == pytest.approx([sum(by_hand) / 3])


def test_the_budget_grows_and_the_rate_falls() -> None:
    recipe = HardenRecipe(clips=160, batch=16, growth=0.5, first_epsilon=1, epsilon=6)
    assert recipe.steps == 10
    assert [recipe.budget(step) * 255 for step in (0, 1, 5, 9)] == pytest.approx([1, 2, 6, 6])
    long = HardenRecipe(clips=16000, batch=16)
    assert long.rate(0) == pytest.approx(long.learning_rate / 10)
    assert long.rate(500) == pytest.approx(long.learning_rate / 2)
    assert long.rate(999) == pytest.approx(long.learning_rate / 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": "nothing"}, "train must be one of .*, got nothing"),
        ({"bare": True}, "bare is for train 'recogniser', got 'both'"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"growth": 1.5}, r"growth must be in 0\.\.1, got 1\.5"),
        ({"epsilon": 0.5}, "at most epsilon, .* got 1.0 and 0.5"),
    ],
)
def test_bad_recipes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardenRecipe(**change)


def test_a_program_cannot_be_trained(pipeline: Path) -> None:
    training = trainer(pipeline, RECIPE)
    config = RecogniserConfig(
        kind="torchscript",
        name="fixed",
        num_frames=FRAMES,
        frame_size=SIZE,
        labels=["dark", "bright"],
    )
    program = ProgramRecogniser(nn.Identity(), config)
    defended = DefendedRecogniser(training.defended.pipeline, program)
    clips = BrightClips(FRAMES, SIZE)
    with pytest.raises(ValueError, match="'fixed' is a program, whose weights are fixed"):
        AdversarialTrainer(defended, clips, RECIPE, PartialState(cpu=True))


def test_fidelity_keeps_purified_clips_like_the_clips(pipeline: Path) -> None:
    clips, _ = BrightClips(FRAMES, SIZE).batch(8, torch.Generator().manual_seed(3))
    changes = []
    for fidelity in (0.0, 200.0):
        training = trainer(pipeline, replace(RECIPE, train="purifier", fidelity=fidelity))
        for index in range(8):
            training.step(index)
        changes.append(float((training.defended.purify(clips) - clips).abs().mean()))
    assert changes[1] < 0.7 * changes[0]


def test_a_negative_fidelity_is_refused() -> None:
    with pytest.raises(ValueError, match="fidelity must not be negative, got -1"):
        HardenRecipe(fidelity=-1)
