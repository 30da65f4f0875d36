"""The `videopure` section of model-config.yaml."""

import pytest
import torch

from videopure.format.settings import HandlerSettings, ModelConfig, SettingsError
from videopure.purifier import FAST, PurifySettings, Randomisation, Shortcuts

pytestmark = pytest.mark.unit


def test_nothing_means_the_defaults() -> None:
    settings = HandlerSettings.parse(None)
    assert settings == HandlerSettings.parse({})
    assert settings.purification == PurifySettings()


def test_yaml_values_are_taken() -> None:
    section = {
        "max_clips_per_forward": 2,
        "limits": {"max_seconds": 10},
        "purification": {
            "guidance_reference": [1, 2, 3, 4],
            "randomisation": {"eta": 1.0, "step_range": [1, 3]},
        },
    }
    settings = HandlerSettings.parse(section)
    assert settings.max_clips_per_forward == 2
    assert settings.limits.max_seconds == 10
    assert settings.purification.guidance_reference == (1, 2, 3, 4)
    drawn = settings.purification.randomisation
    assert drawn == Randomisation(eta=1.0, step_range=(1, 3))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"max_clip_per_forward": 2}, r"videopure\.max_clip_per_forward: Extra inputs.*got 2"),
        ({"limits": {"max_bytes": 0}}, r"videopure\.limits\.max_bytes: .*greater than 0, got 0"),
        ({"max_clips": 0}, r"videopure\.max_clips: .*greater than or equal to 1, got 0"),
        (
            {"purification": {"num_inference_steps": 8}},
            r"videopure: .*max_inversion_steps must be below .*num_inference_steps \(8\), got 10",
        ),
        ({"purification": {"randomisation": {"eta": 2}}}, r"eta must be in 0\.\.1, got 2"),
        (
            {"purification": {"randomisation": {"step_range": [1, 50]}}},
            r"step_range must be below .*num_inference_steps \(50\), got 50",
        ),
        (
            {"purification": {"shortcuts": {"last_votes": 1}}},
            r"videopure\.purification: .*shortcuts are for speed 'custom', got .* with 'exact'",
        ),
        (
            {"purification": {"speed": "custom", "shortcuts": {"feature_interval": 0}}},
            r"shortcuts: .*feature_interval must be at least 1, got 0",
        ),
        ({"max_clips_per_forward": "all"}, r"max_clips_per_forward.*'auto'.*got 'all'"),
        ({"dtype": "int8"}, r"videopure\.dtype: .*'float16'.*got 'int8'"),
        ({"purification": {"votes": "x"}}, r"videopure\.purification\.votes: .*got 'x'"),
        (
            {"purification": {"metod": "ddim"}},
            r"videopure\.purification\.metod: Extra inputs.*did you mean 'method'\?\), got 'ddim'",
        ),
        (
            {"purification": {"randomisation": {"etta": 1}}},
            r"purification\.randomisation\.etta: Extra inputs.*did you mean 'eta'\?\), got 1",
        ),
        (
            {"purification": {"inversion_steps": -1}},
            r"videopure\.purification\.inversion_steps: .*equal to 0, got -1",
        ),
        (
            {"purification": {"suspicion_threshold": 2}},
            r"videopure\.purification\.suspicion_threshold: .*equal to 1, got 2",
        ),
        (
            {"purification": {"guidance_reference": [0, 4, 28, 28]}},
            r"videopure\.purification: .*reference must be four .*got \(0, 4, 28, 28\)",
        ),
    ],
)
def test_wrong_keys_and_values_are_named(section: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        HandlerSettings.parse(section)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"batchsize": 2}, r"batchsize: Extra inputs.*did you mean 'batchSize'\?\), got 2"),
        ({"batchSize": "2"}, r"batchSize: .*valid integer, got '2'"),
        ({"useJobTicket": "yes"}, r"useJobTicket: .*valid boolean, got 'yes'"),
        ({"videopure": {"limits": {"max_byts": 1}}}, r"limits\.max_byts: .*mean 'max_bytes'"),
        ({"continuousBatching": True}, r"continuousBatching: Extra inputs"),
        ({"videopure": 3}, r"videopure: .*dictionary.*got 3"),
        ([1], r"model-config\.yaml: .*dictionary"),
    ],
)
def test_torchserves_own_keys_are_checked_as_well(config: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ModelConfig.parse(config)


def test_an_empty_section_means_the_defaults() -> None:
    assert ModelConfig.parse({"batchSize": 1, "videopure": None}) == ModelConfig(batchSize=1)


def test_fast_mode_and_shortcuts_reach_the_purifier() -> None:
    fast = HandlerSettings.parse(
        {"purification": {"speed": "fast"}, "max_clips_per_forward": "auto"}
    )
    assert fast.purification.effective_shortcuts == FAST
    assert fast.max_clips_per_forward == "auto"
    chosen = {"speed": "custom", "shortcuts": {"inversion_frames": 3}}
    custom = HandlerSettings.parse({"purification": chosen}).purification
    assert custom.effective_shortcuts == Shortcuts(inversion_frames=3)


def test_auto_dtype_is_half_on_an_accelerator_only() -> None:
    settings = HandlerSettings.parse({})
    assert settings.torch_dtype(torch.device("cpu")) == torch.float32
    assert settings.torch_dtype(torch.device("cuda")) == torch.float16
    chosen = HandlerSettings.parse({"dtype": "bfloat16"})
    assert chosen.torch_dtype(torch.device("cpu")) == torch.bfloat16


def test_decoding_leaves_time_for_an_answer() -> None:
    section = {"limits": {"max_decode_seconds": 20}}
    assert ModelConfig.parse({"responseTimeout": 40, "videopure": section})
    with pytest.raises(SettingsError, match=r"limits\.max_decode_seconds .* \(19\.5\), got 20"):
        ModelConfig.parse({"responseTimeout": 39, "videopure": section})
