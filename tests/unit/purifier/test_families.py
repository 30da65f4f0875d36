"""The families of transformers: what they compute is what diffusers' own parts do."""

from itertools import pairwise

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor

from tests.support.gradients import assert_finite_differences_agree
from tests.support.models import tiny_recogniser
from tests.support.pipelines import TEXT_TO_VIDEO
from tests.support.transformer_pipelines import (
    PIPELINES,
    SIZE,
    random_clips,
)
from videopure.purifier import DefendedRecogniser, PurifySettings, Shortcuts, VideoPurePipeline
from videopure.purifier.models.wan import Wan
from videopure.purifier.sampling import ddim, ddim_inversion
from videopure.purifier.schedule import Schedule, flow_time

pytestmark = pytest.mark.unit

STEPS = 2


@pytest.fixture(scope="module", params=list(PIPELINES))
def pipeline(request: pytest.FixtureRequest) -> VideoPurePipeline:
    return PIPELINES[request.param]()


@pytest.fixture(scope="module")
def wan() -> VideoPurePipeline:
    return PIPELINES["wan"]()


@pytest.fixture(scope="module")
def cogvideox() -> VideoPurePipeline:
    return PIPELINES["cogvideox"]()


def latents() -> Tensor:
    return torch.randn(1, 4, 3, 2, 4, generator=torch.Generator().manual_seed(9))


# --- The codecs


@pytest.mark.parametrize("frames", [2, 4, 5, 8, 9, 16, 17])
@torch.no_grad()
def test_clips_of_any_length_come_back_whole(pipeline: VideoPurePipeline, frames: int) -> None:
    video = random_clips(frames=frames)
    encoded = pipeline.encode(video)
    assert encoded.shape[2] == len(pipeline.model.latent_times(frames)) >= 2
    assert pipeline.decode(encoded, frames).shape == video.shape
    # What was filled up is the last frame again.
    longer = pipeline.decode(encoded).shape[1]
    assert longer >= frames
    whole = torch.cat((video, video[:, -1:].expand(-1, longer - frames, -1, -1, -1)), dim=1)
    assert torch.equal(pipeline.encode(whole), encoded)


@torch.no_grad()
def test_latents_see_their_frame_and_those_before(pipeline: VideoPurePipeline) -> None:
    """Frames after the one that latents stand for change nothing."""
    video = random_clips(frames=17)
    encoded = pipeline.encode(video)
    times = pipeline.model.latent_times(17)
    assert times == [0, 4, 8, 12, 16]
    # CogVideoX's norms are taken over chunks of eight frames.
    for k in (0, 2, 3) if isinstance(pipeline.model, Wan) else (2,):
        changed = video.clone()
        changed[:, times[k] + 1 :] = 0
        seen = (pipeline.encode(changed) - encoded).abs().amax((0, 1, 3, 4))  # [t]
        assert seen[: k + 1].max() < 1e-5
        assert seen[k + 1 :].min() > 1e-4


@torch.no_grad()
def test_wans_latents_are_those_that_its_pipeline_decodes(wan: VideoPurePipeline) -> None:
    """The lines of `WanPipeline.__call__` between its latents and its frames."""
    encoded = wan.encode(random_clips())
    config = wan.vae.config
    mean = torch.tensor(config.latents_mean).view(1, config.z_dim, 1, 1, 1)
    inverse_std = 1.0 / torch.tensor(config.latents_std).view(1, config.z_dim, 1, 1, 1)
    frames = wan.vae.decode(encoded / inverse_std + mean).sample  # [B, 3, T, H, W]
    expected = (frames / 2 + 0.5).clamp(0, 1).transpose(1, 2)
    torch.testing.assert_close(wan.decode(encoded, 5), expected, rtol=0, atol=1e-5)


# --- The noise: a whole inversion and a whole way back, without guidance


def test_levels_are_those_of_the_published_procedure(pipeline: VideoPurePipeline) -> None:
    scheduler = DDIMScheduler.from_pretrained(TEXT_TO_VIDEO / "scheduler")
    published = Schedule(scheduler, None, 5, 50)
    schedule = pipeline.schedule(5)
    assert schedule.timesteps_up == published.timesteps_up == [1, 21, 41, 61, 81, 101]
    for ours, theirs in zip(schedule.levels(), published.levels(), strict=True):
        assert (ours.alpha, ours.alpha_next) == pytest.approx((theirs.alpha, theirs.alpha_next))
    # The same noise ratio in flow matching, as it was computed by hand from A(101).
    assert flow_time(schedule.alpha(101)) == pytest.approx(0.257, abs=5e-4)


@torch.no_grad()
def test_wan_goes_up_and_down_as_flow_matching_does(wan: VideoPurePipeline) -> None:
    """Against Euler steps of `FlowMatchEulerDiscreteScheduler` on `WanTransformer3DModel`."""
    schedule = wan.schedule(STEPS)
    levels = [schedule.alpha(t) for t in (-1, *schedule.timesteps_up)]  # from clean to noisy
    times = [flow_time(alpha) for alpha in levels]
    scales = [((1 - s) ** 2 + s**2) ** 0.5 for s in times]

    def velocity(sample: Tensor, time: float) -> Tensor:
        prompt = wan.prompt_embedding(1)
        answer = wan.transformer(sample, torch.tensor([1000 * time]), prompt)
        return answer.sample

    def walk(sample: Tensor, path: list[float], told: int) -> Tensor:
        """Euler steps along a path of times; `told`: which end of a step the model is told."""
        euler = FlowMatchEulerDiscreteScheduler()
        euler.set_timesteps(sigmas=path)
        for i, (here, there) in enumerate(pairwise(path)):
            time = (here, there)[told]
            # Shown as latents of the time that it is told, which on the way up is the next one's.
            scale = scales[times.index(time)] / scales[times.index(here)]
            shown = sample * scale
            noise = shown + (1 - time) * velocity(shown, time)
            v = (noise - sample) / (1 - here)
            sample = euler.step(v, euler.timesteps[i], sample, return_dict=False)[0]
        return sample

    ours = ddim_inversion(latents(), wan.predict_noise, schedule, temporal=False)[-1]
    theirs = walk(latents() * scales[0], times, told=1)
    torch.testing.assert_close(ours * scales[-1], theirs, rtol=0, atol=2e-5)
    back = ddim(ours, wan.predict_noise, schedule)
    expected = walk(ours * scales[-1], times[::-1], told=0)
    torch.testing.assert_close(back * scales[0], expected, rtol=0, atol=2e-5)
    assert (back - latents()).abs().max() > 1e-3


@torch.no_grad()
def test_cogvideox_goes_up_and_down_as_its_own_scheduler_does(
    cogvideox: VideoPurePipeline,
) -> None:
    """On its own 1000 steps, where its times are whole numbers."""
    theirs: CogVideoXDDIMScheduler = cogvideox.scheduler
    alphas = theirs.alphas_cumprod
    betas = 1 - alphas / torch.cat((torch.ones(1, dtype=alphas.dtype), alphas[:-1]))
    levels = DDIMScheduler(
        trained_betas=betas.numpy(), clip_sample=False, set_alpha_to_one=True, steps_offset=0
    )
    schedule = Schedule(levels, None, STEPS, 50)
    assert schedule.timesteps_down == [40, 20, 0]

    def ours(sample: Tensor, timestep: int) -> Tensor:
        return cogvideox.model.noise(sample, timestep, schedule.alpha(timestep))

    def velocity(sample: Tensor, timestep: int) -> Tensor:
        answer = cogvideox.transformer(
            sample.transpose(1, 2), cogvideox.prompt_embedding(1), torch.tensor([timestep])
        )
        return answer.sample.transpose(1, 2)

    theirs = CogVideoXDDIMScheduler.from_config(theirs.config)
    theirs.set_timesteps(50)
    sample = latents()
    for timestep in schedule.timesteps_down:
        sample = theirs.step(velocity(sample, timestep), timestep, sample).prev_sample
    back = ddim(latents(), ours, schedule)
    torch.testing.assert_close(back, sample, rtol=0, atol=2e-5)

    # On the way up the same equation is solved for the noisier latents; diffusers has no scheduler
    # of CogVideoX for it, so that of DDIM is given its alphas and its velocity.
    inverse = schedule.up
    inverse.register_to_config(prediction_type="v_prediction")
    sample = latents()
    for timestep in schedule.timesteps_up:
        a = schedule.alpha(timestep)
        seen = velocity(sample, timestep)
        noise = a**0.5 * seen + (1 - a) ** 0.5 * sample
        inverse.register_to_config(prediction_type="epsilon")
        sample = inverse.step(noise, timestep, sample).prev_sample
    up = ddim_inversion(latents(), ours, schedule, temporal=False)[-1]
    torch.testing.assert_close(up, sample, rtol=0, atol=2e-5)


def test_cogvideox_is_asked_at_its_own_time(cogvideox: VideoPurePipeline) -> None:
    """Its schedule holds three times the noise ratio of Stable Diffusion's at the same step."""
    alphas = cogvideox.scheduler.alphas_cumprod
    asked: list[float] = []

    def predict(sample: Tensor, time: float) -> Tensor:
        asked.append(time)
        return sample

    schedule = cogvideox.schedule(5)
    for level in schedule.levels():
        cogvideox.model.noise(latents(), level.timestep, level.alpha, predict)
    for level, time in zip(schedule.levels()[:-1], asked[:-1], strict=True):
        below, above = alphas[int(time)], alphas[int(time) + 1]
        assert above <= level.alpha <= below
    assert asked == sorted(asked, reverse=True)
    assert 35 < asked[0] < 50
    assert asked[-1] == 0.0  # less noise than it ever saw: its cleanest


# --- Purification


@pytest.mark.parametrize("method", ["videopure", "one_look", "ddpm"])
def test_each_clip_is_purified_for_itself(pipeline: VideoPurePipeline, method: str) -> None:
    options = {"inversion_steps": 0, "method": method}
    seeds = [torch.Generator().manual_seed(k) for k in (1, 2)]
    both = pipeline(random_clips(2), generator=seeds, **options)
    assert both.candidates.shape[2:] == (5, 3, *SIZE)
    again = [torch.Generator().manual_seed(1)]
    alone = pipeline(random_clips(2)[:1], generator=again, **options)
    torch.testing.assert_close(both.candidates[0], alone.candidates[0], rtol=0, atol=2e-4)


def test_flow_is_taken_between_the_frames_of_latents(pipeline: VideoPurePipeline) -> None:
    seen: list[Tensor] = []

    def flow(video: Tensor) -> Tensor:
        seen.append(video)
        return torch.zeros(len(video), video.shape[1] - 1, 2, *SIZE)

    video = random_clips(frames=9)
    found = pipeline.estimate_flow(video, flow)
    assert torch.equal(seen[0], video[:, [0, 4, 8]])
    assert found.shape == (1, 2, 2, 2, 4)
    with pytest.raises(ValueError, match=r"flow must have shape \[1, 2, 2, 16, 32\]"):
        pipeline(video, flow=torch.zeros(1, 8, 2, *SIZE))


def test_frames_must_be_whole_patches(pipeline: VideoPurePipeline) -> None:
    with pytest.raises(ValueError, match="must be multiples of 16, got 24x32"):
        pipeline(torch.rand(1, 5, 3, 24, 32))
    with pytest.raises(ValueError, match="multiples of 16; use a recogniser with another frame"):
        DefendedRecogniser(pipeline, tiny_recogniser(5, (24, 32)))


def test_fast_mode_computes_every_block_of_a_transformer(wan: VideoPurePipeline) -> None:
    recogniser = tiny_recogniser(5, SIZE)
    calls: list[int] = []
    hook = wan.transformer.blocks[1].register_forward_hook(lambda *_: calls.append(1))
    try:
        fast = DefendedRecogniser(wan, recogniser, PurifySettings(speed="fast", inversion_steps=2))
        (verdict,) = fast.answer(random_clips()).verdicts
    finally:
        hook.remove()
    assert (verdict.of, len(calls)) == (1, 4)  # one up, three down
    reuse = Shortcuts(feature_interval=2)
    with pytest.raises(ValueError, match="feature_interval must be 1 for a WanTransformer3DModel"):
        DefendedRecogniser(wan, recogniser, PurifySettings(speed="custom", shortcuts=reuse))


@pytest.mark.extended
@pytest.mark.parametrize("family", list(PIPELINES))
def test_exact_gradients_are_those_of_finite_differences(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Their blocks compute norms in float32 at least: here in float64, too.
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    pipeline = PIPELINES[family]()
    pipeline.to(torch.float64)
    settings = PurifySettings(inversion_steps=0)
    recogniser = tiny_recogniser(5, SIZE).to(torch.float64)
    defended = DefendedRecogniser(pipeline, recogniser, settings)
    pipeline.gradient_checkpointing = True
    video = random_clips().double() * 0.9 + 0.05
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(video.shape, generator=generator, dtype=torch.float64)
    assert_finite_differences_agree(defended, video, direction)
