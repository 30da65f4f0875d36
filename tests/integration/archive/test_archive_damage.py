"""Each kind of damage has its own error, in `verify` and at the start of a worker alike."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity import FIXTURE
from tests.support.models import save_recogniser
from tests.support.workers import start
from videopure.archive import BuildError, build_archive
from videopure.format.integrity import FolderFiles, is_pickle
from videopure.format.manifest import ManifestError
from videopure.format.opening import inspect_archive, verify_archive
from videopure.format.settings import SettingsError

pytestmark = pytest.mark.integration

WEIGHTS = "recogniser/model.safetensors"


@pytest.fixture
def unpacked(tiny_archive: Path, tmp_path: Path) -> Path:
    ZipFile(tiny_archive).extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def remove(root: Path) -> None:
    (root / WEIGHTS).unlink()


def flip_a_byte(root: Path) -> None:
    data = bytearray((root / WEIGHTS).read_bytes())
    data[-7] ^= 1
    (root / WEIGHTS).write_bytes(data)


def change_dtype(root: Path) -> None:
    weights = {name: value.double() for name, value in load_file(root / WEIGHTS).items()}
    save_file(weights, root / WEIGHTS)


def change_class(root: Path) -> None:
    config = root / "pipeline" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "UNet2DModel"}))


def put_a_pickle(root: Path) -> None:
    (root / WEIGHTS).write_bytes(pickle.dumps({"head": [1.0]}))


def put_a_torch_pickle(root: Path) -> None:
    torch.save({"head": torch.zeros(1)}, root / WEIGHTS)


def link_outside(root: Path) -> None:
    outside = root.parent / "outside.safetensors"
    (root / WEIGHTS).rename(outside)
    (root / WEIGHTS).symlink_to(outside)


def name_outside(root: Path) -> None:
    file = root / "videopure.json"
    manifest = json.loads(file.read_text())
    manifest["files"]["../outside.py"] = manifest["files"][WEIGHTS]
    file.write_text(json.dumps(manifest))


def add_code(root: Path) -> None:
    (root / "numpy.py").write_text("print('not numpy')")


def break_manifest(root: Path) -> None:
    file = root / "videopure.json"
    file.write_text(file.read_text().replace('"sha256": "', '"sha256": "x', 1))


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (remove, r"^recogniser/model\.safetensors is missing from the archive"),
    (flip_a_byte, r"^recogniser/model\.safetensors has changed since the archive was built"),
    (change_dtype, r"^recogniser/model\.safetensors holds .*wrong dtype: float64, expected float"),
    (
        change_class,
        r"^pipeline/unet/config\.json is of the wrong class: UNet2DModel, expected UNet3DCond",
    ),
    (put_a_pickle, r"^recogniser/model\.safetensors is a pickle, which can run any code"),
    (put_a_torch_pickle, r"^recogniser/model\.safetensors is a pickle, which can run any code"),
    (link_outside, r"^'recogniser/model\.safetensors' leaves the archive: it is a link to"),
    (name_outside, r"^'\.\./outside\.py' leaves the archive"),
    (add_code, r"^numpy\.py is in the archive but not in its videopure\.json"),
    (break_manifest, r"^videopure\.json is malformed: files\..*sha256: .*pattern"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[d.__name__ for d, _ in DAMAGE])
def test_damage_stops_verify_and_the_worker(
    unpacked: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(unpacked)
    with pytest.raises(ManifestError, match=message):
        verify_archive(unpacked)
    with pytest.raises(ManifestError, match=message):
        start(unpacked)


def test_what_is_intact_passes_and_starts(unpacked: Path, tiny_archive: Path) -> None:
    packed, folder = verify_archive(tiny_archive), verify_archive(unpacked)
    assert packed.manifest == folder.manifest == inspect_archive(tiny_archive).manifest
    start(unpacked)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize: 4\n", r"batchsize: .*did you mean 'batchSize'"),
        ("videopure: {dtipe: float16}\n", r"videopure\.dtipe: .*did you mean 'dtype'"),
        ("videopure: {max_clips: 0}\n", r"videopure\.max_clips: .*got 0"),
    ],
)
def test_wrong_settings_stop_verify_and_the_worker(unpacked: Path, text: str, message: str) -> None:
    (unpacked / "model-config.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        verify_archive(unpacked)
    with pytest.raises(SettingsError, match=message):
        start(unpacked)


def repacked(source: Path, target: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> Path:
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(*change(info.filename, old.read(info)))
    return target


def test_a_packed_archive_is_checked_without_unpacking(tiny_archive: Path, tmp_path: Path) -> None:
    def leave(name: str, data: bytes) -> tuple[str, bytes]:
        return (f"../{name}" if name == WEIGHTS else name), data

    def other_handler(name: str, data: bytes) -> tuple[str, bytes]:
        return name, data.replace(
            b"videopure_handler.py", b"evil.py"
        ) if "MAR-INF" in name else data

    archive = repacked(tiny_archive, tmp_path / "a.mar", leave)
    with pytest.raises(ManifestError, match=r"'\.\./recogniser/model\.safetensors' leaves"):
        verify_archive(archive)
    archive = repacked(tiny_archive, tmp_path / "b.mar", other_handler)
    with pytest.raises(ManifestError, match=r"starts the handler 'evil\.py', expected"):
        verify_archive(archive)
    damaged, weights = bytearray(tiny_archive.read_bytes()), ZipFile(tiny_archive).read(WEIGHTS)
    damaged[damaged.index(weights) + len(weights) - 1] ^= 1
    (tmp_path / "c.mar").write_bytes(damaged)
    with pytest.raises(ManifestError, match=r"c\.mar is damaged: Bad CRC-32 for file 'recogniser"):
        verify_archive(tmp_path / "c.mar")


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mar").write_bytes(b"text")
    with pytest.raises(ManifestError, match=r"a\.mar is not an archive"):
        verify_archive(tmp_path / "a.mar")
    with pytest.raises(ManifestError, match=r"there is no archive .*b\.mar"):
        inspect_archive(tmp_path / "b.mar")
    with pytest.raises(ManifestError, match=r"the archive has no videopure\.json"):
        inspect_archive(tmp_path)


def test_safetensors_whose_header_length_looks_like_a_pickle_are_none(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x280)
    (tmp_path / "a.safetensors").write_bytes((0x280).to_bytes(8, "little") + header + bytes(4))
    assert load_file(tmp_path / "a.safetensors")["a"].shape == (1,)
    files = FolderFiles(tmp_path)
    assert not is_pickle(files, "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(pickle.dumps({}))
    assert is_pickle(files, "b.safetensors")


PIPELINE = FIXTURE / "model_seed0"


def damaged_source(tmp_path: Path, damage: Callable[[Path], Any]) -> tuple[Path, Path]:
    root = tmp_path / "source"
    save_recogniser(root / "recogniser")
    shutil.copytree(PIPELINE, root / "pipeline")
    damage(root)
    return root / "recogniser", root / "pipeline"


def index_outside(root: Path) -> None:
    index = {"weight_map": {"head.weight": "../other.safetensors"}}
    (root / "recogniser" / "model.safetensors.index.json").write_text(json.dumps(index))


def cut(root: Path) -> None:
    os.truncate(root / WEIGHTS, 100)


def integers(root: Path) -> None:
    weights = {name: value.to(torch.int8) for name, value in load_file(root / WEIGHTS).items()}
    save_file(weights, root / WEIGHTS)


def not_finite(root: Path) -> None:
    weights = load_file(root / WEIGHTS)
    weights["head.weight"][0] = float("nan")
    save_file(weights, root / WEIGHTS)


def misspelt(root: Path) -> None:
    config = json.loads((root / "recogniser" / "config.json").read_text())
    (root / "recogniser" / "config.json").write_text(json.dumps({**config, "framez": 4}))


SOURCES: list[tuple[Callable[[Path], None], str]] = [
    (remove, r"recogniser .* holds no safetensors"),
    (cut, r"recogniser .*model\.safetensors is damaged: "),
    (integers, r"recogniser .*model\.safetensors holds I8 weights; use one of F32, F16, BF16"),
    (change_dtype, r"recogniser .*model\.safetensors holds F64 weights; use one of F32, F16"),
    (
        change_class,
        r"pipeline .*unet is a UNet2DModel, a family that is not supported; use one "
        "of UNet3DConditionModel, UNetMotionModel, CogVideoX",
    ),
    (put_a_pickle, r"recogniser .*model\.safetensors is a pickle under another name"),
    (index_outside, r"recogniser .*index\.json names '\.\./other\.safetensors', which leaves"),
    (misspelt, r"recogniser \S+ cannot be loaded: recogniser/config\.json: unknown key 'framez'"),
    (not_finite, r"recogniser 'tiny' returns .*not finite"),
]


@pytest.mark.parametrize(("damage", "message"), SOURCES, ids=[d.__name__ for d, _ in SOURCES])
def test_damaged_sources_are_not_built_from(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    recogniser, pipeline = damaged_source(tmp_path, damage)
    with pytest.raises(BuildError, match=message) as raised:
        build_archive(recogniser, pipeline, tmp_path / "out" / "videopure.mar")
    assert ".videopure-build-" not in str(raised.value)  # a folder that is gone
    assert not list((tmp_path / "out").glob("*"))
