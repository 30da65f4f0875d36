"""RAFT in an archive: stored, checked, served."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.models import save_recogniser
from tests.support.pipelines import TEXT_TO_VIDEO
from tests.support.videos import encode, frames
from videopure.archive import BuildError, BuildSpec, build
from videopure.format.manifest import Manifest, ManifestError
from videopure.format.opening import verify_archive
from videopure.handler.description import describe
from videopure.handler.torchserve import load_service
from videopure.purifier import RAFTFlow

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("torchvision")]


def weights(file: Path, name: str = "raft_small") -> Path:
    from torchvision.models import get_model

    torch.manual_seed(0)
    state = get_model(name, weights=None).state_dict()
    if file.suffix == ".pth":
        torch.save(state, file)
    else:
        save_file(state, file)
    return file


def spec(tmp_path: Path, **options: Any) -> BuildSpec:
    if not (tmp_path / "recogniser").exists():
        save_recogniser(tmp_path / "recogniser")
    settings = {"purification": {"inversion_steps": 0}, "warm_up": False}
    return BuildSpec(
        recogniser=tmp_path / "recogniser",
        pipeline=TEXT_TO_VIDEO,
        out=tmp_path / "videopure",
        folder=True,
        trial=False,
        config={"videopure": settings},
        **{"flow": "raft_small", **options},
    )


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_raft_is_served_from_the_archive(tmp_path: Path, suffix: str, thin: bool) -> None:
    built = spec(tmp_path, flow_weights=weights(tmp_path / f"raft.{suffix}"), thin=thin)
    root = build(built)
    manifest = verify_archive(root).manifest
    assert manifest.flow is not None
    assert (manifest.flow.name, manifest.flow.kind) == ("raft_small", "RAFTFlow")
    assert manifest.flow.classes == {"config.json": "torchvision.raft_small"}
    assert manifest.flow.dtype == "float32"
    inside = (root / "flow" / "model.safetensors").exists()
    assert inside == (not thin or suffix == "pth")  # pickles are converted, so they go in
    service = load_service(root, built.check().videopure, torch.device("cpu"))
    estimator = service.defended.pipeline.flow_estimator
    assert isinstance(estimator, RAFTFlow)
    (reply,) = service.answer([{"body": encode(frames(6, 32, 48))}], ["a"]).replies
    assert reply.status == 200, reply.body
    assert describe(service, manifest)["flow"]["source"] == f"torchvision:raft_small raft.{suffix}"


def test_raft_stays_in_float32_whatever_the_rest(tmp_path: Path) -> None:
    file = weights(tmp_path / "raft.safetensors")
    root = build(spec(tmp_path, flow_weights=file, dtype="bfloat16"))
    manifest = Manifest.read(root)
    assert manifest.flow is not None
    assert (manifest.flow.dtype, manifest.purifier.dtype) == ("float32", "bfloat16")


def test_wrong_flow_weights_are_named(tmp_path: Path) -> None:
    file = weights(tmp_path / "large.safetensors", "raft_large")
    for options, message in (
        ({"flow_weights": file}, r"flow_weights .*large\.safetensors: .*no weights of raft_small"),
        ({"flow_weights": tmp_path / "none.pth"}, r"flow_weights .*none\.pth is not a file"),
    ):
        with pytest.raises(BuildError, match=message):
            build(spec(tmp_path, **options))


def test_a_changed_flow_is_named_at_the_start(tmp_path: Path) -> None:
    built = spec(tmp_path, flow_weights=weights(tmp_path / "raft.safetensors"))
    root = build(built)
    config = root / "flow" / "config.json"
    config.write_text(json.dumps({"kind": "torchvision.raft_large"}))
    message = r"flow/config\.json is of the wrong class: torchvision\.raft_large, expected torchvi"
    with pytest.raises(ManifestError, match=message):
        verify_archive(root)
    with pytest.raises(ManifestError, match=message):
        load_service(root, built.check().videopure, torch.device("cpu"))
