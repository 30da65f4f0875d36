"""Archives as a file, as a folder and thin: built, checked, damaged, served in process."""

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.hub import COMMIT, serve_hub, use_hub
from tests.support.models import save_recogniser
from tests.support.pipelines import TEXT_TO_VIDEO
from tests.support.videos import encode, frames
from videopure.archive import BuildError, BuildSpec, build
from videopure.archive.configure import configure_archive
from videopure.format.manifest import Manifest, ManifestError
from videopure.format.opening import inspect_archive, verify_archive
from videopure.format.settings import HandlerSettings
from videopure.handler.torchserve import load_service

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")
SETTINGS = {"purification": {"inversion_steps": 0}, "warm_up": False}
UNET = "pipeline/unet/diffusion_pytorch_model.safetensors"
WEIGHTS = "recogniser/model.safetensors"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with `recogniser` and `pipeline`."""
    root = tmp_path / "sources"
    save_recogniser(root / "recogniser")
    shutil.copytree(TEXT_TO_VIDEO, root / "pipeline")
    return root


def spec(root: Path, out: Path, **options: Any) -> BuildSpec:
    options = {"config": {"videopure": SETTINGS}, "trial": False, **options}
    return BuildSpec(
        recogniser=root / "recogniser",
        pipeline=root / "pipeline",
        out=out,
        name=out.stem,
        **options,
    )


def serve(root: Path, **settings: Any) -> Tensor:
    """What an archive's folder answers to a video when it is loaded as a worker does."""
    service = load_service(root, HandlerSettings.parse({**SETTINGS, **settings}), CPU)
    (reply,) = service.answer([{"body": encode(frames(6, 32, 48))}], ["a"]).replies
    assert reply.status == 200, reply.body
    return torch.tensor([p["score"] for p in reply.body["predictions"]])


def unpack(archive: Path, target: Path) -> Path:
    ZipFile(archive).extractall(target)
    return target


@pytest.fixture
def expected(sources: Path, tmp_path: Path) -> Tensor:
    """The answer of an archive that holds everything."""
    return serve(unpack(build(spec(sources, tmp_path / "fat.mar")), tmp_path / "fat"))


def test_a_folder_is_an_archive_that_torchserve_takes_as_it_is(
    sources: Path, tmp_path: Path, expected: Tensor
) -> None:
    out = tmp_path / "model_store" / "videopure"
    assert build(spec(sources, out, folder=True)) == out
    manifest = json.loads((out / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["model"]["handler"] == "videopure_handler.py"
    assert manifest["model"]["configFile"] == "model-config.yaml"
    assert manifest["model"]["modelName"] == "videopure"
    assert verify_archive(out).manifest == Manifest.read(out)
    torch.testing.assert_close(serve(out), expected)
    # Nothing else is left beside it, and an older one is replaced.
    (out / "recogniser" / "older").write_text("")
    build(spec(sources, out, folder=True))
    verify_archive(out)
    assert [path.name for path in out.parent.iterdir()] == ["videopure"]


def test_a_folder_that_is_no_archive_is_never_replaced(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(BuildError, match="precious exists and is not an archive"):
        build(spec(sources, out, folder=True))
    assert (out / "thesis.txt").exists()
    with pytest.raises(BuildError, match=r"folder's name without an ending, got .*a\.mar"):
        build(spec(sources, tmp_path / "a.mar", folder=True))


def test_a_thin_archive_leaves_weights_where_they_are(
    sources: Path, tmp_path: Path, expected: Tensor
) -> None:
    archive = build(spec(sources, tmp_path / "thin.mar", thin=True))
    held = [name for name in ZipFile(archive).namelist() if name.endswith(".safetensors")]
    assert held == ["pipeline/prompt_embedding/diffusion_pytorch_model.safetensors"]
    summary = verify_archive(archive)
    assert summary.manifest.external_weights.keys() == {"recogniser", "pipeline"}
    assert summary.manifest.external_weights["recogniser"].folder == str(sources / "recogniser")
    fat = inspect_archive(tmp_path / "fat.mar").manifest
    assert summary.manifest.files[UNET] == fat.files[UNET]
    assert summary.manifest.purifier.parameters == fat.purifier.parameters
    root = unpack(archive, tmp_path / "thin")
    before = sorted(root.rglob("*"))
    torch.testing.assert_close(serve(root), expected)
    assert sorted(root.rglob("*")) == before


def test_weights_of_a_thin_archive_may_be_moved(
    sources: Path, tmp_path: Path, expected: Tensor
) -> None:
    root = build(spec(sources, tmp_path / "thin", thin=True, folder=True))
    moved = sources.rename(tmp_path / "moved")
    with pytest.raises(ManifestError, match=r"which is missing: set weights\.pipeline in model-"):
        serve(root)
    folders = {name: str(moved / name) for name in ("recogniser", "pipeline")}
    torch.testing.assert_close(serve(root, weights=folders), expected)
    text = (root / "model-config.yaml").read_text()
    for name, folder in folders.items():
        text = text.replace(f"  #   {name}: null", f"    {name}: {folder}")
    (root / "model-config.yaml").write_text(text.replace("  # weights:", "  weights:"))
    configure_archive(root)
    verify_archive(root)
    with pytest.raises(ManifestError, match=r"weights\.flow is set, but only these have external"):
        serve(root, weights={**folders, "flow": "x"})


def remove(root: Path, sources: Path) -> None:
    (sources / WEIGHTS).unlink()


def flip_a_byte(root: Path, sources: Path) -> None:
    data = bytearray((sources / UNET).read_bytes())
    data[-7] ^= 1
    (sources / UNET).write_bytes(data)


def change_dtype(root: Path, sources: Path) -> None:
    weights = {name: value.double() for name, value in load_file(sources / WEIGHTS).items()}
    save_file(weights, sources / WEIGHTS)


def put_a_pickle(root: Path, sources: Path) -> None:
    (sources / WEIGHTS).write_bytes(pickle.dumps({"head": [1.0]}))


def change_class(root: Path, sources: Path) -> None:
    config = root / "pipeline" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "UNet2DModel"}))


def put_weights_inside(root: Path, sources: Path) -> None:
    shutil.copyfile(sources / WEIGHTS, root / WEIGHTS)


def _manifest(root: Path, change: Callable[[Any], object]) -> None:
    manifest = json.loads((root / "videopure.json").read_text())
    change(manifest)
    (root / "videopure.json").write_text(json.dumps(manifest))


def leave_the_folder(root: Path, sources: Path) -> None:
    def change(manifest: Any) -> None:
        manifest["external_weights"]["recogniser"]["files"][WEIGHTS] = "../../etc/passwd"

    _manifest(root, change)


def forget_the_digest(root: Path, sources: Path) -> None:
    _manifest(root, lambda manifest: manifest["files"].pop(WEIGHTS))


DAMAGE = [
    (remove, r"^recogniser/model\.safetensors is to be read from .*, which is missing: set weig"),
    (flip_a_byte, r"^pipeline/unet/diff.*\.safetensors has changed since the archive was built"),
    (change_dtype, r"^recogniser/model\.safetensors holds .*wrong dtype: float64, expected float"),
    (put_a_pickle, r"^recogniser/model\.safetensors is a pickle, which can run any code"),
    (change_class, r"^pipeline/unet/config\.json is of the wrong class: UNet2DModel"),
    (put_weights_inside, r"^recogniser/model\.safetensors is in the archive, but its manifest"),
    (leave_the_folder, r"^'\.\./\.\./etc/passwd' leaves the archive"),
    (forget_the_digest, r"^recogniser/model\.safetensors is external, but its digest is not"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[d.__name__ for d, _ in DAMAGE])
def test_damage_stops_a_thin_archive(
    sources: Path, tmp_path: Path, damage: Callable[[Path, Path], None], message: str
) -> None:
    root = build(spec(sources, tmp_path / "thin", thin=True, folder=True))
    damage(root, sources)
    with pytest.raises(ManifestError, match=message):
        verify_archive(root)
    with pytest.raises(ManifestError, match=message):
        serve(root)


def test_a_folder_archive_with_a_flipped_byte_does_not_start(sources: Path, tmp_path: Path) -> None:
    root = build(spec(sources, tmp_path / "folder", folder=True))
    flip_a_byte(sources, root)
    message = r"^pipeline/unet/diff.*\.safetensors has changed since the archive was built"
    for check in (verify_archive, serve):
        with pytest.raises(ManifestError, match=message):
            check(root)


@pytest.fixture
def hub(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The sources as repositories `team/recogniser` and `team/pipeline`; answers the cache."""
    cache = tmp_path / "cache"
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(cache))
    sources.rename(tmp_path / "hub-team")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub-team").rename(tmp_path / "hub" / "team")
    with serve_hub(tmp_path / "hub", []) as address:
        use_hub(address, monkeypatch)
        yield cache


def test_a_thin_archive_of_the_hub_reads_its_local_cache(
    expected: Tensor, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = BuildSpec(
        recogniser="team/recogniser",
        pipeline="team/pipeline",
        out=tmp_path / "thin",
        name="thin",
        config={"videopure": SETTINGS},
        thin=True,
        folder=True,
    )
    root = build(built)
    external = Manifest.read(root).external_weights["recogniser"]
    assert (external.folder, external.repo, external.commit) == (None, "team/recogniser", COMMIT)
    use_hub("http://127.0.0.1:9", monkeypatch)  # where nothing listens
    torch.testing.assert_close(serve(root), expected)
    shutil.rmtree(hub)
    message = rf"read from team/pipeline@{COMMIT}, which is not in .* `hf download team/pipeline"
    with pytest.raises(ManifestError, match=message):
        serve(root)


def test_options_that_do_not_go_together_are_named(tmp_path: Path, sources: Path) -> None:
    for options, message in (
        ({"thin": True, "dtype": "float16"}, "dtype float16 does not go with thin"),
        ({"flow": "raft"}, "flow must be one of raft_large, raft_small, got 'raft'"),
        ({"flow": "raft_small"}, "flow and flow_weights are needed together, got raft_small and N"),
    ):
        with pytest.raises(BuildError, match=message):
            build(spec(sources, tmp_path / "a.mar", **options))


def test_variants_and_pickles_are_taken_where_there_is_nothing_else(
    sources: Path, tmp_path: Path, expected: Tensor
) -> None:
    unet, vae = (sources / "pipeline" / part for part in ("unet", "vae"))
    name = "diffusion_pytorch_model.safetensors"
    (unet / name).rename(unet / "diffusion_pytorch_model.fp16.safetensors")
    torch.save(load_file(vae / name), vae / "diffusion_pytorch_model.bin")
    (vae / name).unlink()
    reported: list[str] = []
    root = build(spec(sources, tmp_path / "other", folder=True), reported.append)
    expected_note = "Converting the pickled weights diffusion_pytorch_model.bin of the pipeline"
    assert expected_note in reported
    torch.testing.assert_close(serve(root), expected)


def test_dtype_is_that_of_every_weight(sources: Path, tmp_path: Path) -> None:
    root = build(spec(sources, tmp_path / "half", folder=True, dtype="bfloat16"))
    manifest = Manifest.read(root)
    assert manifest.recogniser.dtype == manifest.purifier.dtype == "bfloat16"
    for file in root.rglob("*.safetensors"):
        dtypes = {weight.dtype for weight in load_file(file).values() if weight.is_floating_point()}
        assert dtypes == {torch.bfloat16}, file


def test_missing_weights_are_not_drawn_at_random(sources: Path, tmp_path: Path) -> None:
    weights = load_file(sources / UNET)
    del weights["conv_norm_out.weight"]
    save_file(weights, sources / UNET)
    with pytest.raises(BuildError, match=r"pipeline/unet lacks the weight conv_norm_out\.weight"):
        build(spec(sources, tmp_path / "a.mar"))


def test_the_trial_says_what_a_clip_takes(sources: Path, tmp_path: Path) -> None:
    root = build(spec(sources, tmp_path / "tried", folder=True, trial=True))
    manifest = Manifest.read(root)
    assert manifest.fit is not None
    assert manifest.fit.device == "cpu" or torch.cuda.is_available()
    assert manifest.fit.clip_ms > 0
    parameters = manifest.recogniser.parameters + manifest.purifier.parameters
    assert manifest.fit.model_bytes == pytest.approx(4 * parameters, rel=0.01)
    assert manifest.fit.clip_bytes is None or manifest.fit.clip_bytes >= 0
    assert Manifest.read(build(spec(sources, tmp_path / "not", folder=True))).fit is None
