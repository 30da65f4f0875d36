"""How videos are found: folders, CSVs and lists, with their classes and without."""

from pathlib import Path

import pytest
from torch import nn

from videopure.evaluation.videos import ClipError, VideoFile, find_videos, number_classes
from videopure.purifier import NetworkRecogniser

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is found by its name alone needs no content."""
    names = ("wave/a.mp4", "wave/deep/b.avi", "jump/c.mp4", ".cache/d.mp4", "jump/.e.mp4")
    for name in (*names, "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def recogniser(*labels: str) -> NetworkRecogniser:
    return NetworkRecogniser(nn.Identity(), "one", 2, (8, 8), list(labels))


def test_folders_give_classes_and_hidden_files_do_not_count(folder: Path) -> None:
    assert find_videos(folder, labelled=True) == [
        VideoFile(folder / "jump/c.mp4", "jump"),
        VideoFile(folder / "wave/a.mp4", "wave"),
        VideoFile(folder / "wave/deep/b.avi", "wave"),
    ]
    plain = find_videos(folder, labelled=False)
    assert plain[0] == VideoFile(folder / "README.md")  # what it is, reading it will tell
    assert len(plain) == 4


def test_a_list_has_a_path_in_each_line_and_no_labels(folder: Path) -> None:
    file = folder / "list.txt"
    file.write_text("wave/a.mp4\n\n  jump/c.mp4 \n")
    found = find_videos(str(file), labelled=False)
    assert [video.path for video in found] == [folder / "wave/a.mp4", folder / "jump/c.mp4"]
    with pytest.raises(ClipError, match="must be 'demo', a folder or a CSV file"):
        find_videos(str(file), labelled=True)


def test_a_csv_needs_labels_only_where_they_are_asked_for(folder: Path) -> None:
    file = folder / "list.csv"
    file.write_text("path\nwave/a.mp4\n")
    assert find_videos(file, labelled=False) == [VideoFile(folder / "wave/a.mp4")]
    with pytest.raises(ClipError, match="names the columns path and label, got path"):
        find_videos(file, labelled=True)


def test_a_video_outside_the_folders_of_classes_is_refused(folder: Path) -> None:
    (folder / "z.mkv").touch()
    with pytest.raises(ClipError, match=r"z\.mkv is not in a class folder"):
        find_videos(folder, labelled=True)


@pytest.mark.parametrize(
    ("labels", "said", "number"),
    [
        (("Playing Guitar", "run"), "playing_guitar", 0),
        (("run", "PlayingGuitar"), "playing guitar", 1),
        (("run", "jump"), "1", 1),
        (("1", "0"), "1", 0),  # a name comes before a number
        (("a-b", "ab"), "a-b", 0),  # a name as it is before one that looks alike
        (("a-b", "ab"), "ab", 1),
        (("?", "!"), "!", 1),
    ],
)
def test_labels_are_names_or_numbers(labels: tuple[str, ...], said: str, number: int) -> None:
    path = Path("x.mp4")
    assert number_classes([VideoFile(path, said)], recogniser(*labels)) == [(path, number)]


def test_all_unknown_labels_are_named_at_once() -> None:
    files = [VideoFile(Path("x.mp4"), label) for label in ("fly", "run", "2", "")]
    with pytest.raises(ClipError, match=r"'one' does not know '', '2', 'fly'; it knows 'run'"):
        number_classes(files, recogniser("run", "sit"))
