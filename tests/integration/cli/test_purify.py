"""`videopure purify`: a copy of a video with an archive's models, and no server."""

import hashlib
import io
import json
import shutil
from pathlib import Path
from zipfile import ZipFile

import av
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.support.damage import sound_only
from tests.support.videos import encode, frames
from videopure.archive.configure import configure_archive
from videopure.cli.main import app

pytestmark = pytest.mark.integration


def purify(archive: Path, source: Path, target: Path, *more: str) -> Result:
    arguments = ["purify", str(source), str(target), "--archive", str(archive), *more]
    return CliRunner().invoke(app, arguments)


def pixels_of(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@pytest.mark.parametrize(("size", "written"), [((32, 48), (32, 48)), ((35, 51), (36, 52))])
def test_the_copy_has_the_frames_the_size_and_the_rate(
    tiny_archive: Path, tmp_path: Path, size: tuple[int, int], written: tuple[int, int]
) -> None:
    """H.264 takes even sizes only: odd ones get a row or a column more."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
    source.write_bytes(encode(frames(11, *size), "matroska", "ffv1", "bgr0"))
    result = purify(tiny_archive, source, target, "--window", "4")
    assert result.exit_code == 0, result.output
    assert f"11 frames, {written[1]}x{written[0]}, 8 frames a second" in result.output
    copy = pixels_of(target.read_bytes())
    assert copy.shape == (11, *written, 3)
    with av.open(target) as container:
        assert container.streams.video[0].average_rate == 8
    assert not list(tmp_path.glob("*.part*"))


def test_an_existing_copy_is_only_replaced_by_force(tiny_archive: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    source.write_bytes(encode(frames(4, 16, 24)))
    target.write_bytes(b"mine")
    result = purify(tiny_archive, source, target)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert target.read_bytes() == b"mine"
    result = purify(tiny_archive, source, target, "--force", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "file": str(target),
        "frames": 4,
        "width": 24,
        "height": 16,
        "rate": 8.0,
        "seconds": 0.5,
        "sound": False,
        "warnings": [],
    }
    assert len(pixels_of(target.read_bytes())) == 4


@pytest.mark.parametrize(("most", "warned"), [(0.0, True), (1.0, False)])
def test_a_video_that_the_purifier_does_not_know_is_told(
    tiny_archive: Path, tmp_path: Path, most: float, warned: bool
) -> None:
    archive = Path(shutil.copy(tiny_archive, tmp_path / "videopure.mar"))
    configure_archive(archive, {"videopure": {"purification": {"change_threshold": most}}})
    source = tmp_path / "in.mp4"
    source.write_bytes(encode(frames(4, 16, 24)))
    result = purify(archive, source, tmp_path / "out.mp4", "--json")
    assert result.exit_code == 0, result.output
    warnings = " ".join(json.loads(result.stdout)["warnings"])
    assert ("unlike those the purifier was trained on" in warnings) is warned


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"text", "not a video of a supported"), (sound_only(), "no video stream")],
)
def test_what_is_no_video_is_said(
    tiny_archive: Path, tmp_path: Path, data: bytes, message: str
) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(data)
    result = purify(tiny_archive, source, tmp_path / "out.mp4")
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_device_that_is_none_is_said(tiny_archive: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(encode(frames(4, 16, 24)))
    result = purify(tiny_archive, source, tmp_path / "out.mp4", "--device", "abacus")
    assert (result.exit_code, "got abacus" in " ".join(result.stderr.split())) == (2, True)


def test_an_archive_that_is_none_is_said(tmp_path: Path) -> None:
    source, archive = tmp_path / "in.mp4", tmp_path / "videopure.mar"
    source.write_bytes(encode(frames(4, 16, 24)))
    result = purify(archive, source, tmp_path / "out.mp4")
    assert (result.exit_code, "videopure build" in " ".join(result.stderr.split())) == (1, True)
    archive.write_bytes(b"no archive")
    result = purify(archive, source, tmp_path / "out.mp4")
    assert (result.exit_code, "cannot be used" in " ".join(result.stderr.split())) == (1, True)


def test_a_target_that_cannot_be_written_is_told_before_anything_else(
    tiny_archive: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(encode(frames(4, 16, 24)))
    for name in ("out.gif", "out.txt", "out"):
        result = purify(tiny_archive, source, tmp_path / name)
        assert result.exit_code == 2
        assert "end it in .mp4, .m4v, .mov, .mkv, .webm" in " ".join(result.stderr.split())


def test_a_log_shows_how_far_it_is(tiny_archive: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(encode(frames(8, 16, 24)))
    result = purify(tiny_archive, source, tmp_path / "out.webm", "--window", "4")
    assert result.exit_code == 0, result.output
    assert "Purified 4 of 8 frames" in result.stderr
    assert "Purified 8 of 8 frames" in result.stderr


def test_a_configuration_that_no_library_takes_is_told(tiny_archive: Path, tmp_path: Path) -> None:
    """An archive whose digests are right and whose recogniser's config.json is empty."""
    archive = tmp_path / "archive"
    ZipFile(tiny_archive).extractall(archive)
    (archive / "recogniser" / "config.json").write_text("{}")
    manifest = json.loads((archive / "videopure.json").read_text())
    manifest["files"]["recogniser/config.json"] = {
        "size": 2,
        "sha256": hashlib.sha256(b"{}").hexdigest(),
    }
    (archive / "videopure.json").write_text(json.dumps(manifest))
    source = tmp_path / "in.mp4"
    source.write_bytes(encode(frames(4, 16, 24)))
    result = purify(archive, source, tmp_path / "out.mp4")
    assert result.exit_code == 1
    assert "cannot be used" in " ".join(result.stderr.split())
    assert isinstance(result.exception, SystemExit)
