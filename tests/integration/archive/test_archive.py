"""Archives: built, unpacked, loaded by TorchServe's own loader, checked for changes."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest

from tests.parity import FIXTURE
from tests.support.models import save_recogniser
from tests.support.videos import encode, frames
from videopure.archive import BuildError, build_archive
from videopure.format.integrity import FolderFiles, verify_contents
from videopure.format.manifest import Manifest, ManifestError
from videopure.format.settings import SettingsError

pytestmark = pytest.mark.integration

PIPELINE = FIXTURE / "model_seed0"

# What TorchServe does in a worker: the unpacked archive comes first on sys.path, its own loader
# imports the entry file, and the service is called with a batch as the frontend sends it.
WORKER = """
import json, os, sys
root, video = sys.argv[1:]
sys.path.insert(0, root)
os.chdir(root)
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.model_loader import ModelLoaderFactory
import ts
configs = os.path.join(os.path.dirname(ts.__file__), "configs")
metrics = MetricsCacheYamlImpl(os.path.join(configs, "metrics.yaml"))
metrics.initialize_cache()
service = ModelLoaderFactory.get_model_loader().load(
    "videopure", root, "videopure_handler.py", None, 2, metrics_cache=metrics
)
batch = [
    {"requestId": name, "headers": [], "parameters": [
        {"name": "body", "value": bytearray(body), "contentType": "application/octet-stream"}
    ]}
    for name, body in ((b"good", open(video, "rb").read()), (b"bad", b"text"))
]
headers, rows, ids = service.retrieve_data_for_inference(batch)
service.context.request_ids, service.context.request_processor = ids, headers
answers = [json.loads(text) for text in service._entry_point(rows, service.context)]
import videopure, videopure.purifier
print(json.dumps({
    "answers": answers,
    "status": [service.context.get_response_status(i) for i in range(2)],
    "types": [service.context.get_response_content_type(i) for i in range(2)],
    "code": [videopure.__file__, videopure.purifier.__file__],
    "foreign": [name for name in sys.modules if name.startswith("videopure.")
                and name.split(".")[1] not in ("format", "handler", "purifier", "wire")],
}))
"""


@pytest.fixture
def unpacked(tiny_archive: Path, tmp_path: Path) -> Path:
    ZipFile(tiny_archive).extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def test_archive_holds_all_it_needs_and_nothing_more(tiny_archive: Path) -> None:
    archive = ZipFile(tiny_archive)
    names = set(archive.namelist())
    top = {name.split("/")[0] for name in names}
    assert top == {
        "MAR-INF",
        "model-config.yaml",
        "pipeline",
        "recogniser",
        "videopure",
        "videopure.json",
        "videopure_handler.py",
    }
    assert all(info.compress_type == ZIP_STORED for info in archive.infolist())
    packages = {name.split("/")[1] for name in names if name.startswith("videopure/")}
    assert {p for p in packages if not p.endswith(".py") and p} == {
        "format",
        "handler",
        "purifier",
        "wire",
    }
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pth", ".pkl", ".pyc"))]
    assert not [n for n in names if "text_encoder" in n or "tokenizer" in n]


def test_manifest_records_every_file(unpacked: Path) -> None:
    manifest = Manifest.read(unpacked)
    verify_contents(FolderFiles(unpacked), manifest)
    assert manifest.recogniser.name == "tiny"
    recorded = set(manifest.files)
    for folder in ("pipeline", "recogniser", "videopure"):
        for file in (unpacked / folder).rglob("*"):
            if file.is_file():
                assert file.relative_to(unpacked).as_posix() in recorded


def test_torchserves_own_loader_loads_it_and_it_answers(unpacked: Path, tmp_path: Path) -> None:
    video = tmp_path / "good.mp4"
    video.write_bytes(encode(frames(6, 32, 48)))
    run = subprocess.run(
        [sys.executable, "-c", WORKER, unpacked, video], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout.splitlines()[-1])
    assert seen["status"] == [[200, "OK"], [415, "Unsupported Media Type"]]
    assert seen["types"] == ["application/json"] * 2
    assert seen["answers"][0]["request_id"] == "good"
    assert seen["answers"][0]["purification"]["inversion_steps"] == 2
    assert seen["answers"][0]["votes"] is None  # the operator keeps them
    assert seen["answers"][1]["code"] == 415
    # The archive's own code ran, not the installed one.
    assert all(Path(file).is_relative_to(unpacked) for file in seen["code"])
    assert seen["foreign"] == []


@pytest.mark.parametrize(
    "name", ["recogniser/model.safetensors", "pipeline/unet/config.json", "videopure/__init__.py"]
)
def test_a_changed_file_is_named(unpacked: Path, name: str) -> None:
    with (unpacked / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ManifestError, match=f"{name} has changed since the archive was built"):
        verify_contents(FolderFiles(unpacked), Manifest.read(unpacked))


def test_a_missing_file_is_named(unpacked: Path) -> None:
    (unpacked / "recogniser" / "config.json").unlink()
    with pytest.raises(ManifestError, match=r"recogniser/config\.json is missing"):
        verify_contents(FolderFiles(unpacked), Manifest.read(unpacked))


def test_a_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"has no videopure\.json"):
        Manifest.read(tmp_path)


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    odd = save_recogniser(tmp_path / "odd", frame_size=(20, 20))
    with pytest.raises(BuildError, match=r"do not fit together: .*\(20, 20\).*multiples of 8"):
        build_archive(odd, PIPELINE, tmp_path / "videopure.mar")
    assert not (tmp_path / "videopure.mar").exists()


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    recogniser = save_recogniser(tmp_path / "recogniser")
    with pytest.raises(BuildError, match=r"recogniser .*nowhere is not a folder"):
        build_archive(tmp_path / "nowhere", PIPELINE, tmp_path / "a.mar")
    with pytest.raises(BuildError, match=r"out must end in \.mar"):
        build_archive(recogniser, PIPELINE, tmp_path / "a.zip")
    with pytest.raises(SettingsError, match=r"videopure\.treads: Extra inputs"):
        build_archive(recogniser, PIPELINE, tmp_path / "a.mar", settings={"treads": 1})


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    recogniser = save_recogniser(tmp_path / "recogniser")
    (recogniser / "model.safetensors").rename(recogniser / "model.bin")
    with pytest.raises(BuildError, match="holds no safetensors"):
        build_archive(recogniser, PIPELINE, tmp_path / "a.mar")
    pipeline = tmp_path / "pipeline"
    shutil.copytree(PIPELINE, pipeline)
    weights = pipeline / "unet" / "diffusion_pytorch_model.safetensors"
    weights.with_suffix(".bin").write_bytes(pickle.dumps({"a": Path()}, protocol=2))
    weights.unlink()
    with pytest.raises(BuildError, match=r"diffusion_pytorch_model\.bin is a pickle that may hold"):
        build_archive(save_recogniser(tmp_path / "other"), pipeline, tmp_path / "a.mar")
