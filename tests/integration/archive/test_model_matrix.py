"""Each family of recognisers behind each kind of diffusion model: built, checked, served."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from diffusers import UNetMotionModel
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.support.average_codec import AverageCodec
from tests.support.models import save_recogniser
from tests.support.pipelines import (
    TEXT_TO_VIDEO,
    save_motion_adapter,
    save_stable_diffusion,
    save_tiny_decoder,
    tiny_motion_unet,
)
from tests.support.programs import YAML, save_export, save_script
from tests.support.recognisers import FAMILIES, save_transformers
from tests.support.transformer_pipelines import save_cogvideox, save_wan
from tests.support.videos import encode, frames
from videopure.archive import BuildError, BuildSpec, build
from videopure.cli.main import app
from videopure.format.manifest import Manifest
from videopure.handler.torchserve import TorchServeHandler, load_service
from videopure.purifier.models.unet3d import UNet3D

pytestmark = pytest.mark.integration

SETTINGS = """\
purification: {inversion_steps: 1}
warm_up: false
allow_programs: true
policy: {answer: full}
"""
Options = list[str]


def transformers(family: str) -> Callable[[Path], Options]:
    def save(folder: Path) -> Options:
        save_transformers(family, folder)
        return ["--recogniser", str(folder)]

    return save


def torchvision(folder: Path) -> Options:
    from torchvision.models import get_model

    folder.mkdir()
    torch.manual_seed(0)
    save_file(
        get_model("mc3_18", weights=None, num_classes=3).state_dict(), folder / "w.safetensors"
    )
    (folder / "small.yaml").write_text("frames: 4\nsize: 16\nresize: 16\nlabels: [a, b, c]")
    return [
        *("--recogniser", "torchvision:mc3_18", "--weights", str(folder / "w.safetensors")),
        *("--recogniser-config", str(folder / "small.yaml")),
    ]


def program(save: Callable[[Path], Path], name: str) -> Callable[[Path], Options]:
    def options(folder: Path) -> Options:
        folder.mkdir()
        file = save(folder / name)
        file.with_suffix(".yaml").write_text(YAML)
        return [
            *("--recogniser", str(file), "--trust-program"),
            *("--recogniser-config", str(file.with_suffix(".yaml"))),
        ]

    return options


def own(folder: Path) -> Options:
    return ["--recogniser", str(save_recogniser(folder, 4, (16, 16)))]


RECOGNISERS = {
    **{family: transformers(family) for family in FAMILIES},
    "torchvision": torchvision,
    "export": program(save_export, "tiny.pt2"),
    "torchscript": program(save_script, "tiny.pt"),
    "videopure": own,
}


TRANSFORMERS = {
    "cogvideox": (save_cogvideox, "CogVideoXTransformer3DModel"),
    "wan": (save_wan, "WanTransformer3DModel"),
}


@pytest.fixture(scope="module")
def animatediff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Stable Diffusion pipeline in `sd` and a motion adapter in `adapter`."""
    root = tmp_path_factory.mktemp("animatediff")
    save_stable_diffusion(root / "sd")
    save_motion_adapter(root / "adapter", frames=8)
    return root


def run(*arguments: object) -> dict[str, Any]:
    """What a command with `--json` prints."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout[result.stdout.index("{") :]))


class Context(SimpleNamespace):
    """What a worker sees of a batch of one request."""

    def __init__(self, root: Path) -> None:
        config = yaml.safe_load((root / "model-config.yaml").read_text())
        properties = {"model_dir": str(root), "gpu_id": None}
        super().__init__(model_yaml_config=config, system_properties=properties, metrics=None)

    def get_all_request_header(self, index: int) -> dict[str, str]:
        return {}

    def get_request_header(self, index: int, name: str) -> str | None:
        return None

    def get_request_id(self, index: int) -> str:
        return "a"

    def set_response_status(self, code: int, phrase: str, index: int) -> None:
        assert code == 200, phrase

    def set_response_content_type(self, index: int, value: str) -> None:
        assert value == "application/json"


# Each recogniser with the model that is quickest to build, and each other diffusion model once; the
# rest are among the slow tests.
_OFTEN = [
    *((family, "unet3d") for family in RECOGNISERS),
    *(("vivit", "unet-motion"), ("videomae", "cogvideox"), ("videopure", "wan")),
]
_SELDOM = [(family, d) for family in RECOGNISERS for d in ("unet-motion", "cogvideox", "wan")]
PAIRS = [pytest.param(*pair, id="-".join(pair)) for pair in _OFTEN] + [
    pytest.param(*pair, id="-".join(pair), marks=pytest.mark.slow)
    for pair in _SELDOM
    if pair not in _OFTEN
]


@pytest.mark.parametrize(("family", "diffusion"), PAIRS)
def test_every_recogniser_is_served_behind_every_diffusion_model(
    family: str,
    diffusion: str,
    tmp_path: Path,
    animatediff: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if family == "torchvision":
        request.getfixturevalue("torchvision")
    options = RECOGNISERS[family](tmp_path / "recogniser")
    options += ["--pipeline", str(TEXT_TO_VIDEO)]
    expected = "UNet3DConditionModel"
    if diffusion == "unet-motion":
        options[-1] = str(animatediff / "sd")
        options += ["--motion-adapter", str(animatediff / "adapter")]
        expected = "UNetMotionModel"
    elif diffusion in TRANSFORMERS:
        save, expected = TRANSFORMERS[diffusion]
        options[-1] = str(save(tmp_path / "diffusion"))
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    options += ["--settings", str(tmp_path / "settings.yaml")]
    root = tmp_path / "videopure"
    built = run("build", *options, "--folder", "--out", root)
    place = "transformer" if diffusion in TRANSFORMERS else "unet"
    assert built["purifier"]["classes"][f"{place}/config.json"] == expected
    assert built["fit"]["clip_ms"] > 0
    assert run("inspect", root)["recogniser"]["kind"] == built["recogniser"]["kind"]
    assert run("verify", root)["intact"]

    handler = TorchServeHandler()
    handler.initialize(Context(root))
    monkeypatch.setattr("videopure.handler.torchserve.emit", lambda batch, metrics: None)
    (answer,) = handler.handle([{"body": encode(frames(6, 32, 48))}], Context(root))
    answer = json.loads(answer)
    assert answer["votes"]["of"] == 3
    assert answer["predictions"][0]["label"] in {"wave", "jump", "run", "sit", "a", "b", "c"}
    assert sum(p["score"] for p in answer["predictions"]) == pytest.approx(1, abs=0.01)


def spec(animatediff: Path, tmp_path: Path, **options: Any) -> BuildSpec:
    recogniser = tmp_path / "own"
    if not recogniser.exists():
        save_recogniser(recogniser, 4, (16, 16))
    defaults: dict[str, Any] = {
        "recogniser": recogniser,
        "pipeline": animatediff / "sd",
        "motion_adapter": animatediff / "adapter",
        "out": tmp_path / "built",
        "folder": True,
        "trial": False,
    }
    return BuildSpec(**{**defaults, **options})


def test_animatediff_is_what_diffusers_puts_together(animatediff: Path, tmp_path: Path) -> None:
    root = build(spec(animatediff, tmp_path))
    stored = UNetMotionModel.from_pretrained(root / "pipeline" / "unet")
    expected = tiny_motion_unet(frames=8).state_dict()
    assert stored.state_dict().keys() == expected.keys()
    for name, tensor in stored.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    scheduler = json.loads((root / "pipeline" / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["beta_schedule"] == "linear"
    assert scheduler["clip_sample"] is False
    purifier = Manifest.read(root).purifier
    assert purifier.parts == {"motion adapter": "adapter (no licence found)"}


def test_a_prompt_is_embedded_as_diffusers_does(animatediff: Path, tmp_path: Path) -> None:
    from diffusers import AnimateDiffPipeline, MotionAdapter

    root = build(spec(animatediff, tmp_path, prompt="a person waves"))
    file = root / "pipeline" / "prompt_embedding" / "diffusion_pytorch_model.safetensors"
    adapter = MotionAdapter.from_pretrained(animatediff / "adapter")
    theirs = AnimateDiffPipeline.from_pretrained(
        animatediff / "sd", motion_adapter=adapter, dtype=torch.float32
    )
    expected, _ = theirs.encode_prompt("a person waves", "cpu", 1, False)
    torch.testing.assert_close(load_file(file)["embedding"], expected)
    config = json.loads(file.with_name("config.json").read_text())
    assert config["prompt"] == "a person waves"
    assert not (root / "pipeline" / "text_encoder").exists()
    with pytest.raises(BuildError, match=r"prompt takes .* tokens, more than the 77"):
        build(spec(animatediff, tmp_path, prompt="wave " * 80))
    again = spec(animatediff, tmp_path, pipeline=root / "pipeline", motion_adapter=None, prompt="x")
    with pytest.raises(BuildError, match="has the embedding of a prompt but no text"):
        build(again)


def test_a_decoder_is_stored_and_used(animatediff: Path, tmp_path: Path) -> None:
    decoder = save_tiny_decoder(tmp_path / "taesd")
    (decoder / "README.md").write_text("---\nlicense: mit\n---\n")
    built = spec(animatediff, tmp_path, decoder=decoder, trial=True)
    root = build(built)
    manifest = Manifest.read(root)
    assert manifest.purifier.classes["decoder/config.json"] == "AutoencoderTiny"
    assert manifest.purifier.parts["decoder"] == "taesd (mit)"
    service = load_service(root, built.check().videopure, torch.device("cpu"))
    assert type(service.defended.pipeline.decoder).__name__ == "AutoencoderTiny"


def test_a_new_codec_is_one_small_file_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(UNet3D.codecs, "AverageCodec", AverageCodec.__module__)
    source = tmp_path / "pipeline"
    shutil.copytree(TEXT_TO_VIDEO, source)
    shutil.rmtree(source / "vae")
    AverageCodec().save_pretrained(source / "vae")
    built = spec(tmp_path, tmp_path, pipeline=source, motion_adapter=None, trial=True)
    manifest = Manifest.read(build(built))
    assert manifest.purifier.classes["vae/config.json"] == "AverageCodec"
    assert manifest.fit is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"motion_adapter": None}, r"sd/unet is a UNet2DConditionModel, which models no motion: g"),
        ({"pipeline": TEXT_TO_VIDEO}, "unet is a UNet3DConditionModel; a motion adapter needs UN"),
        ({"motion_adapter": TEXT_TO_VIDEO / "vae"}, "is a AutoencoderKL; a motion adapter needs M"),
        ({"decoder": TEXT_TO_VIDEO / "vae"}, "decoder .*vae is a AutoencoderKL; use AutoencoderTi"),
        (
            {"pipeline": TEXT_TO_VIDEO / "unet", "motion_adapter": None},
            "pipeline unet is only a UNet3DConditionModel: give the folder of the whole pipe",
        ),
        (
            {"recogniser": TEXT_TO_VIDEO},
            r"recogniser .* is a diffusers pipeline \(model_index.json\): give a diffusion model",
        ),
        ({"motion_adapter": None, "motion_lora": "x"}, "motion_lora goes with motion_adapter, got"),
    ],
)
def test_models_of_the_wrong_class_are_named(
    animatediff: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        build(spec(animatediff, tmp_path, **options))
    assert not (tmp_path / "built").exists()


def test_a_folder_that_is_no_diffusion_model_is_told_what_it_is(
    animatediff: Path, tmp_path: Path
) -> None:
    def fails(folder: Path, message: str) -> None:
        with pytest.raises(BuildError, match=message):
            build(spec(animatediff, tmp_path, pipeline=folder, motion_adapter=None))

    own = save_recogniser(tmp_path / "recogniser", 4, (16, 16))
    fails(own, "is a videopure.motion_resnet3d, not a diffusion model: give a recogniser with")
    save_transformers("videomae", tmp_path / "videomae")
    fails(tmp_path / "videomae", "pipeline videomae is a VideoMAEForVideoClassification, not a")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "empty has neither unet/config.json nor transformer/config.json")
    other = tmp_path / "hunyuan" / "transformer"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"_class_name": "HunyuanVideoTransformer3DModel"}')
    fails(other.parent, "is a HunyuanVideoTransformer3DModel, a family that is not supported; use")


def test_a_decoder_of_images_is_not_for_a_codec_of_videos(
    animatediff: Path, tmp_path: Path
) -> None:
    options = {"pipeline": save_wan(tmp_path / "wan"), "motion_adapter": None}
    with pytest.raises(BuildError, match=r"decoder taesd: a Wan cannot have one, .* leave --dec"):
        build(spec(animatediff, tmp_path, decoder=save_tiny_decoder(tmp_path / "taesd"), **options))


def test_misfits_are_refused_with_the_way_out(animatediff: Path, tmp_path: Path) -> None:
    long = save_recogniser(tmp_path / "long", num_frames=9, frame_size=(16, 16))
    with pytest.raises(BuildError, match="takes 9 frames, and the purifier at most 8: use a"):
        build(spec(animatediff, tmp_path, recogniser=long))
    decoder = save_tiny_decoder(tmp_path / "wrong", latent_channels=16)
    with pytest.raises(BuildError, match=r"decoder takes 16 channels .*: use a decoder distilled"):
        build(spec(animatediff, tmp_path, decoder=decoder))
    save_motion_adapter(tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    changed = json.loads(config.read_text()) | {"motion_layers_per_block": 2}
    config.write_text(json.dumps(changed))
    with pytest.raises(BuildError, match=r"motion adapter .*does not fit|lacks the weight"):
        build(spec(animatediff, tmp_path, motion_adapter=tmp_path / "other"))


def test_a_checkpoint_without_a_head_is_refused(animatediff: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pretrained"
    save_transformers("videomae", folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BuildError, match=r"lacks the weights classifier\.bias, .*only pretrained"):
        build(spec(animatediff, tmp_path, recogniser=folder))
