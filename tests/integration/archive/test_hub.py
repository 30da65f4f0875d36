"""Hub ids: fetched over HTTP at build time, found in the local cache without a network."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.support.hub import COMMIT, serve_hub, use_hub
from tests.support.recognisers import save_transformers
from videopure.archive import BuildError
from videopure.archive.hub import find_source, wanted_files
from videopure.purifier import load_recogniser

pytestmark = pytest.mark.integration


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(folder))
    return folder


@pytest.fixture
def requests() -> list[str]:
    return []


@pytest.fixture
def hub(
    tmp_path: Path, cache: Path, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The folder whose sub-folders are the hub's repositories."""
    root = tmp_path / "hub"
    save_transformers("videomae", root / "team" / "videomae-tiny")
    (root / "team" / "videomae-tiny" / "README.md").write_text("---\nlicense: mit\n---\n")
    (root / "team" / "videomae-tiny" / "pytorch_model.bin").write_bytes(b"never fetched")
    with serve_hub(root, requests) as url:
        use_hub(url, monkeypatch)
        yield root


def test_a_hub_id_is_fetched_once_and_then_found_offline(
    hub: Path, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_source("recogniser", "team/videomae-tiny@main")
    assert (source.name, source.origin) == ("videomae-tiny", f"team/videomae-tiny@{COMMIT}")
    assert {file.name for file in source.path.iterdir()} == {
        *("config.json", "model.safetensors", "preprocessor_config.json", "README.md")
    }
    load_recogniser(source.path)
    asked = len(requests)
    assert asked > 3
    assert not [path for path in requests if path.endswith(".bin")]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_source("recogniser", "team/videomae-tiny") == source
    assert len(requests) == asked


def test_what_the_hub_does_not_have_is_named(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"pipeline team/other is not a folder, and the hub ref"):
        find_source("pipeline", "team/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BuildError, match=r"team/other@v1 is neither a folder nor in the hub's l"):
        find_source("pipeline", "team/other@v1")


def test_a_hub_that_cannot_be_reached_is_one_line(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:  # bound and not listening: nobody answers, nobody else takes it
        closed.bind(("127.0.0.1", 0))
        use_hub(f"http://127.0.0.1:{closed.getsockname()[1]}", monkeypatch)
        with pytest.raises(BuildError, match="team/x is not a folder, and the hub cannot be") as e:
            find_source("pipeline", "team/x")
    assert len(str(e.value).splitlines()) == 1


def test_a_mistyped_folder_is_not_asked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "wan").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BuildError, match=r"models/wam is not a folder \(did you mean models/wan\?"):
        find_source("pipeline", "models/wam")
    with pytest.raises(BuildError, match=r"models/other is not a folder$"):
        find_source("pipeline", "models/other")


@pytest.mark.parametrize("where", ["nowhere", "./a/b", "/a/b", "a/b/c", "a b/c"])
def test_a_path_is_never_taken_for_a_hub_id(where: str) -> None:
    with pytest.raises(BuildError, match=f"recogniser {where} is not a folder"):
        find_source("recogniser", where)


def test_of_several_formats_only_the_best_is_fetched() -> None:
    names = [
        "README.md",
        "model_index.json",
        "v1-5-pruned.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/pytorch_model.bin",
        "safety_checker/model.safetensors",
        "tokenizer/merges.txt",
        "flax_model.msgpack",
        "custom_code.py",
    ]
    assert wanted_files(names, ("unet", "vae", "text_encoder", "tokenizer")) == [
        "README.md",
        "model_index.json",
        "text_encoder/pytorch_model.bin",
        "tokenizer/merges.txt",
        "unet/config.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]
    assert wanted_files(["config.json", "pytorch_model.bin", "a/b.json"]) == [
        "config.json",
        "pytorch_model.bin",
    ]
