"""Fast mode: each shortcut saves what it says and leaves the rest alone."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.counting import count_flops
from tests.parity import FIXTURE, load_pipeline
from tests.support.models import tiny_recogniser
from tests.support.pipelines import tiny_motion_unet
from videopure.purifier import (
    FAST,
    DefendedRecogniser,
    Guidance,
    PurifySettings,
    Randomisation,
    Shortcuts,
    VideoPurePipeline,
)
from videopure.purifier.shortcuts import FeatureReuse

pytestmark = pytest.mark.unit

FRAMES, SIZE = 4, (16, 16)
STEPS = 2


@pytest.fixture(scope="module")
def pipeline() -> VideoPurePipeline:
    return load_pipeline(FIXTURE)


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.rand(2, FRAMES, 3, *SIZE, generator=torch.Generator().manual_seed(3))


def defend(pipeline: VideoPurePipeline, shortcuts: Shortcuts | None = None) -> DefendedRecogniser:
    settings = PurifySettings(inversion_steps=STEPS)
    if shortcuts is not None:
        settings = replace(settings, speed="custom", shortcuts=shortcuts)
    return DefendedRecogniser(pipeline, tiny_recogniser(FRAMES, SIZE), settings)


def purified(defended: DefendedRecogniser, clips: Tensor) -> Tensor:
    return torch.stack(defended.candidates(clips))  # [B, V, T, 3, H, W]


@pytest.mark.parametrize(
    "shortcuts",
    [Shortcuts(inversion_frames=FRAMES), Shortcuts(feature_interval=1), Shortcuts(last_votes=99)],
)
@torch.no_grad()
def test_a_shortcut_over_the_whole_way_is_none(
    pipeline: VideoPurePipeline, clips: Tensor, shortcuts: Shortcuts
) -> None:
    exact = purified(defend(pipeline), clips)
    assert torch.equal(purified(defend(pipeline, shortcuts), clips), exact)


@pytest.mark.extended
@pytest.mark.parametrize(
    "shortcuts",
    [
        Shortcuts(inversion_frames=2),
        Shortcuts(inversion_jump=True),
        Shortcuts(feature_interval=2),
        FAST,
    ],
)
@torch.no_grad()
def test_each_shortcut_saves_work_and_stays_near(
    pipeline: VideoPurePipeline, clips: Tensor, shortcuts: Shortcuts
) -> None:
    exact, other = defend(pipeline), defend(pipeline, shortcuts)
    expected, found = purified(exact, clips)[:, -1], purified(other, clips)[:, -1]
    assert not torch.equal(found, expected)
    assert (found - expected).abs().mean() < (expected - clips).abs().mean()
    votes = "full"
    work = count_flops(lambda: other.answer(clips, votes=votes))
    assert work < count_flops(lambda: exact.answer(clips, votes=votes))


@torch.no_grad()
def test_a_jump_of_one_step_is_the_step(pipeline: VideoPurePipeline, clips: Tensor) -> None:
    schedule = pipeline.schedule(0)
    encoded = pipeline.encode(clips)
    step = pipeline.invert(encoded, schedule)
    jump = pipeline.invert(encoded, schedule, shortcuts=Shortcuts(inversion_jump=True))
    assert len(step) == len(jump) == 2
    torch.testing.assert_close(jump[-1], step[-1], rtol=0, atol=1e-5)


def test_only_the_last_candidates_vote(pipeline: VideoPurePipeline, clips: Tensor) -> None:
    exact, other = defend(pipeline), defend(pipeline, Shortcuts(last_votes=2))
    full = exact.answer(clips, votes="full").verdicts
    last = other.answer(clips, votes="full").verdicts
    for all_votes, few in zip(full, last, strict=True):
        assert few.of == len(few.votes) == 2
        assert few.votes == all_votes.votes[-2:]
    assert torch.equal(other.purify(clips), exact.purify(clips))


def denoising_work(
    pipeline: VideoPurePipeline, clips: Tensor, steps: int, shortcuts: Shortcuts
) -> int:
    encoded, flow = pipeline.encode(clips), pipeline.estimate_flow(clips)
    schedule = pipeline.schedule(steps - 1)
    offered = pipeline.denoise(encoded, encoded, flow, schedule, Guidance(), shortcuts=shortcuts)
    return count_flops(lambda: list(offered))


@pytest.mark.extended
@torch.no_grad()
def test_features_are_computed_anew_after_the_interval(
    pipeline: VideoPurePipeline, clips: Tensor
) -> None:
    """Work of three denoising steps: whole, reused, whole."""

    def denoising(interval: int, steps: int, levels: int = 1) -> int:
        shortcuts = Shortcuts(feature_interval=interval, feature_levels=levels)
        return denoising_work(pipeline, clips, steps, shortcuts)

    whole = denoising(1, 1)
    reused = denoising(9, 2) - whole
    assert 0 < reused < whole
    assert denoising(2, 3) == 2 * whole + reused
    assert denoising(1, 3) == 3 * whole
    # The more levels are computed, the less is saved; the middle block is always inside.
    middle = denoising(9, 2, levels=3) - whole
    assert reused < denoising(9, 2, levels=2) - whole < middle < whole
    assert denoising(9, 2, levels=4) - whole == middle


@torch.no_grad()
def test_features_of_a_motion_unet_are_reused_too(
    pipeline: VideoPurePipeline, clips: Tensor
) -> None:
    motion = VideoPurePipeline(
        pipeline.vae,
        tiny_motion_unet(),
        pipeline.scheduler,
        prompt_embedding=pipeline.prompt_embedding,
    )
    whole = denoising_work(motion, clips, 1, Shortcuts())
    assert denoising_work(motion, clips, 3, Shortcuts()) == 3 * whole
    reused = denoising_work(motion, clips, 2, Shortcuts(feature_interval=2)) - whole
    assert 0 < reused < whole
    assert denoising_work(motion, clips, 3, Shortcuts(feature_interval=2)) == 2 * whole + reused


def test_reused_features_leave_the_unet_as_it_was_and_keep_gradients(
    pipeline: VideoPurePipeline, clips: Tensor
) -> None:
    defended = defend(pipeline, FAST)
    given = clips.clone().requires_grad_()
    pipeline.gradient_checkpointing = True
    try:
        sum(votes.sum() for votes in defended.votes(given)).backward()  # type: ignore[union-attr]
    finally:
        pipeline.gradient_checkpointing = False
    checkpointed = given.grad
    given.grad = None
    defended(given).sum().backward()
    torch.testing.assert_close(checkpointed, given.grad)
    assert given.grad is not None
    assert given.grad.abs().sum() > 0
    assert all("forward" not in vars(module) for module in pipeline.unet.modules())


def test_a_forward_that_a_hook_put_there_is_put_back(pipeline: VideoPurePipeline) -> None:
    """As accelerate's do, which move a block to the GPU while it computes."""
    block = pipeline.unet.mid_block
    hooked = block.forward
    block.forward = hooked
    try:
        reuse = FeatureReuse(pipeline.unet, lambda latents, timestep: latents, interval=2)
        reuse(torch.zeros(1), 0)
        assert vars(block)["forward"] is hooked
    finally:
        del block.forward


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": "faster"}, "speed must be one of exact, fast, custom, got 'faster'"),
        ({"shortcuts": FAST}, "shortcuts are for speed 'custom', got .* with 'exact'"),
        (
            {"speed": "fast", "randomisation": Randomisation(random_anchor=True)},
            "random_anchor must be False with shortcuts.inversion_frames",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_named(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PurifySettings(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "argument", ["inversion_frames", "feature_interval", "feature_levels", "last_votes"]
)
def test_counts_below_one_are_named(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got 0"):
        Shortcuts(**{argument: 0})


def test_other_methods_take_no_shortcut() -> None:
    assert PurifySettings(speed="fast").effective_shortcuts == FAST
    assert PurifySettings(speed="fast", method="ddim").effective_shortcuts == Shortcuts()
    assert PurifySettings().effective_shortcuts == Shortcuts()
