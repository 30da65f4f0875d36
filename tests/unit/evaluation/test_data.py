"""Labelled videos from folders and CSVs, and what can be wrong with them."""

from pathlib import Path

import pytest

from tests.support.models import tiny_recogniser
from tests.support.videos import encode, frames
from videopure.evaluation.data import DemoClips, open_source
from videopure.evaluation.store import EvaluationError
from videopure.format.settings import Limits
from videopure.handler.video import read_clip

pytestmark = pytest.mark.unit

RECOGNISER = tiny_recogniser(3, (16, 24))


def write_video(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(frames(6, 32, 48, seed=seed)))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, count in (("Wave", 3), ("jump", 1)):
        for k in range(count):
            write_video(tmp_path / name / f"{k}.mp4", seed=k)
    return tmp_path


def test_a_folder_of_classes_is_read_as_the_server_reads_it(folder: Path) -> None:
    source = open_source(str(folder), RECOGNISER)
    assert len(source) == 4
    clips, labels, names = source.load(0, 4)
    # The classes take turns as long as there are enough of each.
    assert labels.tolist()[:2] in ([0, 1], [1, 0])
    assert sorted(labels.tolist()) == [0, 0, 0, 1]
    for clip, name in zip(clips, names, strict=True):
        expected = read_clip(Path(name).read_bytes(), 3, (16, 24), Limits()).frames
        assert (clip == expected).all()
    assert open_source(str(folder), RECOGNISER).load(0, 4)[2] == names
    source.check(4)


def test_a_csv_names_paths_and_labels_or_their_numbers(folder: Path) -> None:
    file = folder / "list.csv"
    file.write_text("label,path\nwave,Wave/0.mp4\n3,jump/0.mp4\n")
    _, labels, names = open_source(str(file), RECOGNISER).load(0, 2)
    assert dict(zip(names, labels.tolist(), strict=True)) == {
        str(folder / "Wave/0.mp4"): 0,
        str(folder / "jump/0.mp4"): 3,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path;label\n", r"columns path and label, got path;label"),
        ("path,label\nWave/0.mp4,fly\n", r"'tiny' does not know 'fly'; it knows 'wave', 'jump'"),
        ("path,label\nWave/0.mp4,7\n", r"does not know '7'"),
        ("path,label\nWave/0.mp4,wave\nWave/1.mp4,0\n", r"all 2 videos are labelled 'wave'"),
        ("path,label\n", r"no labelled videos"),
    ],
)
def test_faulty_lists_are_refused_at_once(folder: Path, text: str, message: str) -> None:
    file = folder / "list.csv"
    file.write_text(text)
    with pytest.raises(EvaluationError, match=message):
        open_source(str(file), RECOGNISER)


def test_videos_that_cannot_be_read_are_all_named_before_anything_runs(folder: Path) -> None:
    (folder / "jump" / "0.mp4").write_bytes(b"no video")
    (folder / "Wave" / "1.mp4").unlink()
    (folder / "Wave" / "1.mp4").symlink_to("nowhere.mp4")
    file = folder / "list.csv"
    file.write_text("path,label\nWave/0.mp4,wave\nWave/1.mp4,wave\njump/0.mp4,jump\n")
    source = open_source(str(file), RECOGNISER)
    with pytest.raises(EvaluationError, match=r"2 of 3 videos cannot be read") as caught:
        source.check(3)
    assert "Wave/1.mp4: [Errno 2]" in str(caught.value)
    assert "jump/0.mp4: the 8 bytes sent are not a video" in str(caught.value)


def test_what_is_no_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"'demo', a folder or a CSV file, got 'nothing'"):
        open_source("nothing", RECOGNISER)
    with pytest.raises(EvaluationError, match="holds no folders of videos"):
        open_source(str(tmp_path), RECOGNISER)
    with pytest.raises(EvaluationError, match="does not know the demo's classes"):
        DemoClips(RECOGNISER)
