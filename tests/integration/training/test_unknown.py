"""The warning of unknown clips as a detector: what it is measured to be is what is answered."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.support.videos import encode, frames
from videopure.archive.configure import configure_archive
from videopure.evaluation.metrics import auc
from videopure.evaluation.store import EvaluationError
from videopure.evaluation.videos import read_video
from videopure.format.loading import load_archive
from videopure.format.settings import Limits
from videopure.training.unknown import detect, main

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos in `known`, two in `other`, of which the last cannot be read; sources.csv."""
    folder = tmp_path_factory.mktemp("videos")
    for kind, count in (("known", 3), ("other", 2)):
        (folder / kind).mkdir()
        for k in range(count):
            (folder / kind / f"{kind}{k}.mp4").write_bytes(encode(frames(6, seed=7 * k + count)))
    (folder / "other" / "text.mp4").write_text("no video")
    (folder / "sources.csv").write_text("clip,source\nknown0,a\nknown1,a\n")
    return folder


def changes(archive: Path, folder: Path) -> torch.Tensor:
    """What purification changes, clip by clip as a worker answers."""
    defended = load_archive(archive, CPU).defended
    paths = sorted(path for path in folder.iterdir() if path.name != "text.mp4")
    clips = [read_video(path, defended.recogniser, Limits()).frames for path in paths]
    verdicts = [defended.answer(clip[None]).verdicts[0] for clip in clips]
    return torch.tensor([verdict.change or 0.0 for verdict in verdicts])


def test_a_detector_is_measured_by_what_a_worker_answers(
    tiny_archive: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = Path(shutil.copy(tiny_archive, tmp_path / "videopure.mar"))
    known, other = changes(archive, videos / "known"), changes(archive, videos / "other")
    threshold = float(known.sort().values[1])  # which the highest exceeds
    both = {"change_threshold": threshold, "suspicion_threshold": 0.5}
    configure_archive(archive, {"videopure": {"purification": both}})
    main(
        archive,
        str(videos / "known"),
        str(videos / "other"),
        sources=videos / "sources.csv",
        workers=0,
        as_json=True,
    )
    found = json.loads(capsys.readouterr().out)
    assert found["auc"] == pytest.approx(auc(known, other))
    assert found["low"] <= found["auc"] <= found["high"]
    assert found["known"] == [3, 1]
    assert found["other"] == [2, int((other > threshold).sum())]
    assert (found["known_sources"], found["other_sources"]) == (2, 2)
    assert found["median_other"] == pytest.approx(float(other.median()), abs=1e-5)


def test_without_a_threshold_there_is_no_warning_and_it_says_so(
    tiny_archive: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(tiny_archive, str(videos / "known"), str(videos / "other"), workers=0)
    said = capsys.readouterr().out
    assert "The archive is not calibrated: see videopure calibrate." in said
    assert "other: 0 of 2 clips of 2 recordings get the warning" in said


def test_clips_of_the_demos_need_its_recogniser(tiny_archive: Path, videos: Path) -> None:
    with pytest.raises(EvaluationError, match="does not know the demo's classes"):
        detect(tiny_archive, "demo", str(videos / "other"), workers=0)
