"""The demo's own networks and what the training does to clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from videopure.motions.bundle_files import BundleSettings, make_scheduler, save_recogniser
from videopure.motions.clips import CLASSES, Stream
from videopure.motions.dataset import TrainingClips, add_mixed_noise, load_split, mixed_noise, vary
from videopure.purifier.networks import MotionResNet3d, MotionTransformer, PatchCodec
from videopure.purifier.recognisers import load_recogniser
from videopure.training.compact import assemble, fit_codec
from videopure.training.loop import step_generator, train_steps
from videopure.training.noise import draw_noise, latent_noise

pytestmark = pytest.mark.unit


def clips(count: int = 2) -> Tensor:
    return load_split(Stream("validation"), 0, count)[0]


def training_clips(count: int = 20) -> TrainingClips:
    frames, labels = load_split(Stream("train"), 0, count)
    return TrainingClips((frames * 255).round().byte(), labels)


@pytest.mark.parametrize("kind", [MotionResNet3d, MotionTransformer])
def test_a_recogniser_is_differentiable_in_every_pixel(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    # Wide enough that no pixel meets dead units alone.
    network = kind(10, width=16).eval()
    frames = clips().requires_grad_()
    logits = network(frames)
    assert logits.shape == (2, 10)
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), frames)
    assert gradient.shape == frames.shape
    assert bool((gradient.flatten(1) != 0).float().mean(1).min() > 0.99)


def test_the_transformer_names_a_frame_size_it_cannot_take() -> None:
    with pytest.raises(ValueError, match="frame_size must be a multiple of 16, got 40"):
        MotionTransformer(10, frame_size=40)


@pytest.mark.parametrize("kind", [MotionResNet3d, MotionTransformer])
def test_a_saved_recogniser_answers_alike(kind: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = kind(10, width=4).eval()
    save_recogniser(network, "small", {"width": 4}, tmp_path)
    loaded = load_recogniser(tmp_path)
    assert loaded.labels == list(CLASSES)
    with torch.no_grad():
        difference = (loaded.logits(clips()) - network(clips())).abs().max()
    assert float(difference) < 1e-2  # weights are stored as fp16


@pytest.mark.extended
def test_the_codec_restores_clips_like_those_it_was_fitted_to() -> None:
    images = training_clips().batch(300, step_generator(0, 0))[0][:, 5] * 2 - 1
    codec = fit_codec(images, 4, 16)
    # The latents' standard deviation is to be 1.
    with torch.no_grad():
        latents = codec.encode(images).latents * codec.config.scaling_factor
    assert float(latents.std()) == pytest.approx(1, abs=0.01)
    frames = clips(4).flatten(0, 1) * 2 - 1
    with torch.no_grad():
        error = (codec(frames).sample - frames).square().mean() / 4
    assert float(-10 * torch.log10(error)) > 38


def test_latent_noise_has_unit_variance_white_or_not() -> None:
    pipeline = assemble(PatchCodec(patch_size=4, latent_channels=16, scaling_factor=0.5))
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        drawn = draw_noise((16, 3, 64, 64), (16, 16, 16, 16), 0.4, generator)
        noise = latent_noise(drawn, pipeline)
        assert noise.shape == (16, 16, 16, 16)
        assert float(noise.square().mean()) == pytest.approx(1, abs=0.25)


def test_mixed_noise_has_unit_deviation() -> None:
    for seed in range(12):
        noise = mixed_noise((16, 3, 64, 64), torch.Generator().manual_seed(seed))
        assert noise.shape == (16, 3, 64, 64)
        assert float(noise.std()) == pytest.approx(1, abs=0.1)


def test_noisy_clips_stay_in_range() -> None:
    noisy = add_mixed_noise(clips(), 0.5, torch.Generator().manual_seed(0))
    assert 0 <= float(noisy.min()) < float(noisy.max()) <= 1


def test_variations_keep_pixels_and_map_labels_to_labels() -> None:
    frames, labels = training_clips().batch(40, torch.Generator().manual_seed(0))
    assert frames.shape == (40, 16, 3, 64, 64)
    assert 0 <= int(labels.min()) <= int(labels.max()) < len(CLASSES)


def test_a_mirrored_and_reversed_clip_keeps_its_direction() -> None:
    # Reversing in time and mirroring across turns "moves left" into itself.
    source = training_clips(10)
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        frames, label = vary(source.frames[0], source.labels[0], generator)
        moving = (frames.float() - frames.float().mean(dim=(2, 3), keepdim=True)).abs().sum(1)
        heavy = moving > moving.flatten(1).quantile(0.95, dim=1)[:, None, None]
        axis, sign = {0: (2, -1), 1: (2, 1), 2: (1, -1), 3: (1, 1)}[int(label)]
        at = torch.arange(64.0)
        along = heavy.float().sum(3 - axis)
        centre = (along * at).sum(1) / along.sum(1)
        assert sign * float(centre[-1] - centre[0]) > 5


def test_an_interrupted_stage_goes_on_where_it_was(tmp_path: Path) -> None:
    def run(network: nn.Linear, steps: int, folder: Path) -> list[float]:
        seen = []

        def step(index: int) -> dict[str, float]:
            value = float(torch.rand(1, generator=step_generator(5, index)))
            with torch.no_grad():
                network.weight.add_(value)
            seen.append(value)
            return {"loss": value}

        folder.mkdir(exist_ok=True)
        train_steps("stage", steps, step, {"network": network}, folder / "stage.pt")
        return seen

    torch.manual_seed(0)
    whole, parted = nn.Linear(1, 1), nn.Linear(1, 1)
    parted.load_state_dict(whole.state_dict())
    everything = run(whole, 8, tmp_path / "whole")
    first = run(parted, 5, tmp_path / "parted")
    second = run(nn.Linear(1, 1), 8, tmp_path / "parted")
    assert first + second == everything
    state = torch.load(tmp_path / "parted" / "stage.pt", weights_only=True)
    assert torch.equal(state["parts"]["network"]["weight"], whole.weight.detach())
    assert state["log"]["resumed"] == 1


def test_bundle_settings_survive_writing(tmp_path: Path) -> None:
    section = {"inversion_steps": 2, "guidance_reference": [32, 4, 28, 28]}
    settings = BundleSettings(section, {"0.01": 0.4, "0.05": 0.2}, {"0.01": 0.03})
    settings.write(tmp_path)
    assert BundleSettings.read(tmp_path) == settings
    served = settings.purify_settings()
    assert served.suspicion_threshold == 0.4
    assert served.change_threshold == 0.03
    assert served.inversion_steps == 2
    assert served.guidance_reference == (32, 4, 28, 28)


def test_the_scheduler_is_the_one_purification_needs() -> None:
    config = make_scheduler().config
    assert config.steps_offset == 1
    assert config.set_alpha_to_one is False
