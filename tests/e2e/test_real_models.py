"""One archive of each kind of recogniser, diffusion model and form behind a real TorchServe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support import torchvision_operators
from tests.support.pipelines import (
    TEXT_TO_VIDEO,
    save_motion_adapter,
    save_stable_diffusion,
    save_tiny_decoder,
)
from tests.support.programs import YAML, save_export
from tests.support.recognisers import save_transformers
from tests.support.transformer_pipelines import save_cogvideox, save_wan
from tests.support.videos import encode, frames
from videopure.archive import BuildSpec, build
from videopure.client.errors import ClientError
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SETTINGS = {"purification": {"inversion_steps": 0}, "allow_programs": True}


def transformers_and_animatediff_in_a_folder(root: Path) -> dict[str, Any]:
    save_transformers("videomae", root / "videomae")
    return {
        "recogniser": root / "videomae",
        "pipeline": save_stable_diffusion(root / "sd"),
        "motion_adapter": save_motion_adapter(root / "adapter"),
        "decoder": save_tiny_decoder(root / "decoder"),
        "out": root / "store" / "animate",
        "folder": True,
    }


def program_and_unet3d_thin(root: Path) -> dict[str, Any]:
    program = save_export(root / "tiny.pt2")
    program.with_suffix(".yaml").write_text(YAML)
    return {
        "recogniser": program,
        "recogniser_config": program.with_suffix(".yaml"),
        "trust_program": True,
        "pipeline": TEXT_TO_VIDEO,
        "out": root / "store" / "thin.mar",
        "thin": True,
    }


def torchvision_with_raft_in_a_file(root: Path) -> dict[str, Any]:
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model("mc3_18", weights=None, num_classes=3)
    save_file(network.state_dict(), root / "mc3.safetensors")
    save_file(get_model("raft_small", weights=None).state_dict(), root / "raft.safetensors")
    (root / "small.yaml").write_text("frames: 4\nsize: 16\nresize: 16\nlabels: [a, b, c]")
    return {
        "recogniser": "torchvision:mc3_18",
        "recogniser_config": root / "small.yaml",
        "weights": root / "mc3.safetensors",
        "flow": "raft_small",
        "flow_weights": root / "raft.safetensors",
        "pipeline": TEXT_TO_VIDEO,
        "out": root / "store" / "raft.mar",
    }


def videomae_and_cogvideox_thin(root: Path) -> dict[str, Any]:
    save_transformers("videomae", root / "videomae")
    return {
        "recogniser": root / "videomae",
        "pipeline": save_cogvideox(root / "cogvideox"),
        "out": root / "store" / "cogvideox.mar",
        "thin": True,
    }


def program_and_wan_in_a_folder(root: Path) -> dict[str, Any]:
    return {
        **program_and_unet3d_thin(root),
        "pipeline": save_wan(root / "wan"),
        "out": root / "store" / "wan",
        "thin": False,
        "folder": True,
    }


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers can import torchvision, too."""
    for name, value in torchvision_operators.environment().items():
        monkeypatch.setenv(name, value)


KINDS = [
    transformers_and_animatediff_in_a_folder,
    program_and_unet3d_thin,
    torchvision_with_raft_in_a_file,
    videomae_and_cogvideox_thin,
    program_and_wan_in_a_folder,
]
DENOISERS = {
    "cogvideox": ("transformer", "CogVideoXTransformer3DModel"),
    "wan": ("transformer", "WanTransformer3DModel"),
    "animate": ("unet", "UNetMotionModel"),
}


@pytest.mark.usefixtures("torchvision", "importable")
@pytest.mark.parametrize("models", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_it_is_served(models: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    options = models(tmp_path)
    spec = BuildSpec(**options, name=options["out"].stem, config={"videopure": SETTINGS})
    video = tmp_path / "clip.mp4"
    video.write_bytes(encode(frames(6, 32, 48)))
    folder = tmp_path / "server"
    folder.mkdir()
    with (
        TorchServe(build(spec), folder=folder, overrides=free_addresses()) as server,
        server.client() as client,
    ):
        answer = client.predict(video)
        described = client.describe()
    assert answer.votes is not None
    assert answer.votes.of == 2
    assert len(answer.predictions) == 3
    classes = described["purifier"]["classes"]
    place, expected = DENOISERS.get(spec.name, ("unet", "UNet3DConditionModel"))
    assert classes[f"{place}/config.json"] == expected
    assert described["flow"]["name"] == options.get("flow", "DIS")


def test_a_thin_archive_whose_weights_have_changed_does_not_start(tmp_path: Path) -> None:
    options = transformers_and_animatediff_in_a_folder(tmp_path)
    spec = BuildSpec(
        recogniser=options["recogniser"],
        pipeline=TEXT_TO_VIDEO,
        out=tmp_path / "store" / "thin.mar",
        name="thin",
        thin=True,
        trial=False,
    )
    archive = build(spec)
    weights = tmp_path / "videomae" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-7] ^= 1
    weights.write_bytes(data)
    folder = tmp_path / "server"
    folder.mkdir()
    server = TorchServe(archive, folder=folder, overrides=free_addresses())
    message = r"recogniser/model\.safetensors has changed since the archive was built"
    with pytest.raises(ClientError, match=message), server:
        pass
