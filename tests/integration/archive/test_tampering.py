"""What a hostile file may do: nothing. Each case ran, or passed for intact, in version 1.0."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.parity import FIXTURE
from tests.support.keys import write_keys
from tests.support.models import save_recogniser
from tests.support.programs import YAML, save_export
from tests.support.workers import start
from videopure.archive import BuildError, BuildSpec, build, build_archive
from videopure.archive.configure import configure_archive, sign_archive
from videopure.format.loading import load_archive
from videopure.format.manifest import ManifestError
from videopure.format.opening import inspect_archive, verify_archive
from videopure.format.settings import SettingsError
from videopure.handler.torchserve import REQUIRED_SIGNATURE

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")
CONFIG = "model-config.yaml"
ENTRY = "MAR-INF/MANIFEST.json"


@pytest.fixture
def unpacked(tiny_archive: Path, tmp_path: Path) -> Path:
    ZipFile(tiny_archive).extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def repacked(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))
    return target


@pytest.mark.parametrize(
    "name",
    [
        "__pycache__/videopure_handler.cpython-311.pyc",
        "videopure/handler/__pycache__/service.cpython-311.pyc",
        ".other.yaml",
        "videopure/.hidden/evil.py",
        "MAR-INF/other.json",
    ],
)
def test_nothing_may_be_added_hidden_or_compiled(
    unpacked: Path, tiny_archive: Path, tmp_path: Path, name: str
) -> None:
    (unpacked / name).parent.mkdir(exist_ok=True)
    (unpacked / name).write_bytes(b"print('evil')")
    packed = tmp_path / "packed.mar"
    packed.write_bytes(tiny_archive.read_bytes())
    with ZipFile(packed, "a") as archive:
        archive.writestr(name, b"print('evil')")
    for tampered in (unpacked, packed):
        with pytest.raises(ManifestError, match="was added after the archive was built"):
            verify_archive(tampered)
    with pytest.raises(ManifestError, match="was added after the archive was built"):
        start(unpacked)


def test_a_worker_leaves_nothing_behind_and_starts_again(unpacked: Path) -> None:
    """Python compiles the entry file before it runs; what it leaves would be refused next time."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import videopure_handler; "
        "import videopure.handler.torchserve"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program, str(unpacked)], env=environment, check=True)
        assert not list(unpacked.rglob("*.pyc"))
        verify_archive(unpacked)


def prepend(archive: Path, name: str, data: bytes) -> None:
    """Put an entry in front that only a reader of local headers sees."""
    with ZipFile(archive) as old:
        entries = [(info.filename, old.read(info)) for info in old.infolist()]
    with ZipFile(archive, "w") as new:
        new.writestr(name, data)
        for kept, content in entries:
            new.writestr(kept, content)
        new.filelist = [info for info in new.filelist if info.filename != name]
        new.NameToInfo.pop(name)


def test_what_only_the_local_headers_hold_is_found(tiny_archive: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.mar"
    archive.write_bytes(tiny_archive.read_bytes())
    prepend(archive, "videopure_handler2.py", b"print('evil')")
    assert "videopure_handler2.py" not in ZipFile(archive).namelist()
    with pytest.raises(ManifestError, match="belong to no file of its directory"):
        verify_archive(archive)


def test_local_headers_and_directory_must_agree(tiny_archive: Path, tmp_path: Path) -> None:
    data = bytearray(tiny_archive.read_bytes())
    offset = ZipFile(tiny_archive).getinfo("videopure_handler.py").header_offset
    start_of_name = offset + 30
    assert data[start_of_name : start_of_name + 9] == b"videopure"
    data[start_of_name] = ord("V")
    (tmp_path / "a.mar").write_bytes(data)
    with pytest.raises(ManifestError, match=r"local header of 'videopure_handler\.py' says"):
        verify_archive(tmp_path / "a.mar")


def test_a_name_that_stands_twice_is_refused(tiny_archive: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.mar"
    archive.write_bytes(tiny_archive.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate name"), ZipFile(archive, "a") as packed:
        packed.writestr("videopure_handler.py", b"print('evil')")
    with pytest.raises(ManifestError, match=r"contains 'videopure_handler\.py' twice"):
        verify_archive(archive)


def test_large_files_have_their_sizes_in_the_extra_field(tmp_path: Path) -> None:
    from videopure.format.zip_layout import check_layout

    with (
        ZipFile(tmp_path / "a.zip", "w") as packed,
        packed.open("a", "w", force_zip64=True) as file,
    ):
        file.write(b"data")
    check_layout(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("configFile", ".other.yaml"),
        ("modelName", "other"),
        ("serializedFile", "evil.pt"),
        ("requirementsFile", "requirements.txt"),
        ("handler", "other.py"),
    ],
)
def test_all_that_torchserve_reads_is_checked(unpacked: Path, key: str, value: str) -> None:
    told = json.loads((unpacked / ENTRY).read_text())
    told["model"][key] = value
    (unpacked / ENTRY).write_text(json.dumps(told))
    with pytest.raises(ManifestError, match=f"{ENTRY} (tells|starts)"):
        verify_archive(unpacked)
    with pytest.raises(ManifestError, match=f"{ENTRY} (tells|starts)"):
        start(unpacked)


@pytest.mark.parametrize("name", ["/etc/passwd", "C:\\evil.py", "a\\..\\evil.py", "a/../../b", ""])
def test_paths_in_the_manifest_stay_inside(unpacked: Path, name: str) -> None:
    file = unpacked / "videopure.json"
    manifest = json.loads(file.read_text())
    manifest["files"][name] = manifest["files"]["videopure_handler.py"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match="leaves the archive"):
        verify_archive(unpacked)


def weaken(text: str) -> str:
    assert "inversion_steps: 2" in text
    return text.replace("inversion_steps: 2", "inversion_steps: 0")


def test_changed_settings_are_refused_until_they_are_recorded(
    unpacked: Path, tiny_archive: Path, tmp_path: Path
) -> None:
    config = unpacked / CONFIG
    config.write_text(weaken(config.read_text()))
    packed = repacked(
        tiny_archive,
        tmp_path / "a.mar",
        lambda name, data: weaken(data.decode()).encode() if name == CONFIG else data,
    )
    for tampered in (unpacked, packed):
        with pytest.raises(ManifestError, match=f"{CONFIG} has changed .* `videopure configure`"):
            verify_archive(tampered)
    with pytest.raises(ManifestError, match=f"{CONFIG} has changed"):
        start(unpacked)
    summary = configure_archive(unpacked)
    assert summary.changed == {"videopure.purification.inversion_steps": (2, 0)}
    assert verify_archive(unpacked).changed == summary.changed
    start(unpacked)


def test_settings_of_a_packed_archive_are_changed_by_key(
    tiny_archive: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "a.mar"
    archive.write_bytes(tiny_archive.read_bytes())
    before = ZipFile(archive).read("recogniser/model.safetensors")
    change = {"batchSize": 2, "videopure": {"purification": {"votes": "full"}}}
    summary = configure_archive(archive, change)
    assert summary.changed == {
        "batchSize": (4, 2),
        "videopure.purification.votes": (None, "full"),
    }
    assert verify_archive(archive).chosen["videopure"]["purification"]["inversion_steps"] == 2
    assert ZipFile(archive).read("recogniser/model.safetensors") == before
    # Back to what was built: nothing is changed any more.
    assert configure_archive(archive, {"batchSize": 4}).changed == {
        "videopure.purification.votes": (None, "full")
    }
    with pytest.raises(SettingsError, match="did you mean 'batchSize'"):
        configure_archive(archive, {"batchsize": 2})
    verify_archive(archive)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mar"]


def test_torchserve_must_serve_the_settings_that_are_checked(unpacked: Path) -> None:
    other = yaml.safe_load(weaken((unpacked / CONFIG).read_text()))
    with pytest.raises(ManifestError, match="TorchServe has other settings"):
        start(unpacked, config=other)


def test_weights_in_memory_do_not_follow_their_files(unpacked: Path) -> None:
    file = unpacked / "recogniser" / "model.safetensors"
    defended = load_archive(unpacked, CPU).defended
    clips = torch.rand(1, 4, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    before = defended(clips)
    zeros = {name: torch.zeros_like(value) for name, value in load_file(file).items()}
    save_file(zeros, unpacked.parent / "zeros")
    data = (unpacked.parent / "zeros").read_bytes()
    with file.open("r+b") as opened:  # in place: a mapping of the old file sees it
        opened.write(data)
    assert torch.equal(defended(clips), before)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path)


def test_a_signature_holds_until_anything_changes(
    unpacked: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys
    with pytest.raises(ManifestError, match="is not signed, and a signature by"):
        verify_archive(unpacked, public)
    sign_archive(unpacked, private)
    verify_archive(unpacked, public)
    monkeypatch.setenv(REQUIRED_SIGNATURE, str(public))
    start(unpacked)
    # The operator changes and records the settings, but does not sign again.
    signature = (unpacked / "signature.json").read_bytes()
    configure_archive(unpacked, {"videopure": {"purification": {"inversion_steps": 0}}})
    verify_archive(unpacked)
    with pytest.raises(ManifestError, match="is not signed"):
        start(unpacked)
    (unpacked / "signature.json").write_bytes(signature)
    with pytest.raises(ManifestError, match="has changed since it was signed"):
        start(unpacked)


def test_another_key_does_not_do(
    tiny_archive: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    archive = tmp_path / "a.mar"
    archive.write_bytes(tiny_archive.read_bytes())
    other, _ = write_keys(tmp_path, "other")
    sign_archive(archive, other)
    with pytest.raises(ManifestError, match=r"signed by the key .* is required"):
        verify_archive(archive, keys[1])
    with pytest.raises(ManifestError, match=r"key\.pem does not hold a public key"):
        verify_archive(archive, keys[0])


def test_links_out_of_a_source_are_not_followed(tmp_path: Path) -> None:
    recogniser = save_recogniser(tmp_path / "recogniser")
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0")
    (recogniser / "README.md").symlink_to(secret)
    with pytest.raises(BuildError, match=r"README\.md is a link out of its folder"):
        build_archive(recogniser, FIXTURE / "model_seed0", tmp_path / "out" / "videopure.mar")


def test_code_of_a_recogniser_folder_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recogniser = save_recogniser(tmp_path / "recogniser")
    config = json.loads((recogniser / "config.json").read_text())
    del config["kind"]
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig"}}
    (recogniser / "config.json").write_text(json.dumps(config))
    (recogniser / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    reader, writer = os.pipe()
    os.write(writer, b"y\n")
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(BuildError, match=r"its own code .* never run"):
            build_archive(recogniser, FIXTURE / "model_seed0", tmp_path / "out" / "videopure.mar")
        os.close(writer)
        assert stdin.read() == "y\n", "standard input was read"
    assert not (tmp_path / "ran").exists()


def test_a_damaged_zip_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "a.mar").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(ManifestError, match=r"has no videopure\.json"):
        inspect_archive(tmp_path / "a.mar")
    with zipfile.ZipFile(tmp_path / "b.mar", "w") as packed:
        packed.writestr("videopure.json", "{}")
    with pytest.raises(ManifestError, match="is malformed"):
        verify_archive(tmp_path / "b.mar")


def test_a_program_is_loaded_only_where_the_operator_allows_it(tmp_path: Path) -> None:
    program = save_export(tmp_path / "tiny.pt2")
    (tmp_path / "tiny.yaml").write_text(YAML)
    notes: list[str] = []
    archive = build(
        BuildSpec(
            recogniser=program,
            recogniser_config=tmp_path / "tiny.yaml",
            trust_program=True,
            pipeline=FIXTURE / "model_seed0",
            out=tmp_path / "store" / "videopure.mar",
            config={"videopure": {"purification": {"inversion_steps": 0}}},
        ),
        notes.append,
    )
    assert "Note: workers refuse the program until the settings say allow_programs: true" in notes
    verify_archive(archive)
    with pytest.raises(ManifestError, match=r"tiny\.pt2 is a program, which is code, and this"):
        load_archive(archive, CPU)
    configure_archive(archive, {"videopure": {"allow_programs": True}})
    load_archive(archive, CPU)


def test_an_archive_of_version_1_says_what_to_do(unpacked: Path) -> None:
    file = unpacked / "videopure.json"
    manifest = json.loads(file.read_text()) | {"format": 2}
    del manifest["config"], manifest["settings"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match=r"built by version 1\.0, .*: build it again"):
        verify_archive(unpacked)
