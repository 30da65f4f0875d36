"""`videopure calibrate` and `tune`: an alarm and settings for an archive of one's own."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.support.disk import files_of_at_most
from tests.support.models import LABELS
from tests.support.videos import encode, frames
from videopure.archive import inspect_archive
from videopure.archive.configure import configure_archive
from videopure.cli.inspect import alarm_line
from videopure.cli.main import app
from videopure.evaluation.store import EvaluationError
from videopure.evaluation.videos import ClipError
from videopure.format.loading import load_archive
from videopure.format.opening import unpacked
from videopure.handler.torchserve import load_service
from videopure.training.calibrate import calibrate
from videopure.training.tune import Choice, Found, better, tune

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")
UNLIKE = "unlike those the purifier was trained on"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of each of two classes."""
    folder = tmp_path_factory.mktemp("videos")
    for label in LABELS[:2]:
        (folder / label).mkdir()
        for k in range(3):
            video = encode(frames(6, seed=k if label == "wave" else 10 + k))
            (folder / label / f"{k}.mp4").write_bytes(video)
    return folder


@pytest.fixture
def archive(tiny_archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_archive, tmp_path / "videopure.mar"))


def answered(archive: Path, video: Path) -> dict[str, Any]:
    """What a worker of the archive answers, in full."""
    configure_archive(archive, {"videopure": {"policy": {"answer": "full"}}})
    with unpacked(archive) as root:
        service = load_service(root, load_archive(archive, CPU).settings, CPU)
        (reply,) = service.answer([{"body": bytearray(video.read_bytes())}], ["one"]).replies
    assert reply.status == 200, reply.body
    return reply.body


def test_calibration_writes_what_the_clips_say(archive: Path, videos: Path) -> None:
    found = calibrate(archive, videos, false_alarms=0.2, workers=0)
    defended = load_archive(archive, CPU).defended
    settings = inspect_archive(archive).config.videopure
    assert settings.calibration.clips == 6
    assert settings.calibration.settings == ("inversion_steps=2",)
    # With six clips the highest score of all but one is as near as can be.
    ordered = found.scores.suspicion.sort().values
    written = settings.purification.suspicion_threshold
    assert written == pytest.approx(float(ordered[-2]), abs=1e-4)
    assert defended.settings.change_threshold == found.change.value
    assert "the alarm is on: suspicion above" in alarm_line(inspect_archive(archive))
    answer = answered(archive, videos / "wave" / "0.mp4")
    assert answer["purification"]["calibrated"] is True
    assert isinstance(answer["suspicion"]["adversarial"], bool)


def test_a_clips_change_is_its_distance_from_the_first_candidate(archive: Path) -> None:
    defended = load_archive(archive, CPU).defended
    clips = torch.rand(2, 4, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        candidates = defended.candidates(clips)
    for clip, shown, verdict in zip(
        clips, candidates, defended.answer(clips).verdicts, strict=True
    ):
        expected = (shown[0] - clip).square().mean().sqrt()
        assert verdict.change == pytest.approx(float(expected), rel=1e-4)
    assert defended.answer(clips, purify=False).verdicts[0].change is None


def test_a_clip_that_the_purifier_does_not_know_gets_a_warning(archive: Path, videos: Path) -> None:
    video = videos / "wave" / "0.mp4"
    assert not any(UNLIKE in warning for warning in answered(archive, video)["warnings"])
    thresholds = {"suspicion_threshold": 0.5, "change_threshold": 0.0}
    configure_archive(archive, {"videopure": {"purification": thresholds}})
    assert any(UNLIKE in warning for warning in answered(archive, video)["warnings"])


def test_other_settings_turn_the_alarm_off_and_say_so(archive: Path, videos: Path) -> None:
    calibrate(archive, videos, workers=0)
    runner = CliRunner()
    faster = "videopure.purification.speed=fast"
    done = runner.invoke(app, ["configure", str(archive), "--set", faster])
    assert done.exit_code == 0
    said = " ".join(done.output.split())
    assert "the alarm is off: its thresholds were calibrated for the defaults" in said
    assert "set to speed=fast" in said
    answer = answered(archive, videos / "wave" / "0.mp4")
    assert answer["purification"]["calibrated"] is False
    assert answer["suspicion"]["adversarial"] is None
    # And back again they hold.
    configure_archive(archive, {"videopure": {"purification": {"speed": "exact"}}})
    assert "the alarm is on" in alarm_line(inspect_archive(archive))


def test_the_command_says_how_little_few_clips_are(
    archive: Path, videos: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(f"{videos}/wave/0.mp4\n{videos}/jump/1.mp4\nnone.mp4\n")
    picture = tmp_path / "alarm.png"
    done = CliRunner().invoke(
        app,
        [
            *("calibrate", str(tmp_path / "list.txt"), "--archive", str(archive)),
            *("--dry-run", "--picture", str(picture)),
        ],
    )
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "2 clean clips: expect 1.3% to 84.2% of similar clips to be called adversarial" in said
    assert "1.00% false alarms need 99 or more" in said
    assert "Skipped 1 video that cannot be read" in said
    assert "not written" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert inspect_archive(archive).config.videopure.calibration.clips == 0


def test_a_full_disk_leaves_the_archive_as_it_was(archive: Path, videos: Path) -> None:
    before = archive.read_bytes()
    with files_of_at_most(len(before) // 2), pytest.raises(EvaluationError, match="no larger"):
        calibrate(archive, videos, count=1, workers=0)
    assert archive.read_bytes() == before
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_without_a_clip_nothing_is_calibrated(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "text.mp4").write_text("no video")
    with pytest.raises(ClipError, match=r"no clean clips to calibrate on\n.*text\.mp4: the 8"):
        calibrate(archive, tmp_path / "only", workers=0)


def test_settings_are_tried_one_after_the_other_and_written(
    archive: Path, videos: Path, tmp_path: Path
) -> None:
    tuned = tune(
        archive, videos, count=4, steps=(0, 2), strengths=(4.0,), speeds=("fast",), write=True
    )
    names = [found.choice.name for found in tuned.found]
    assert names[:2] == ["as it is", "t = 0"]  # 2 is the archive's own
    assert names[2].endswith("guidance x4")
    assert names[3].endswith("fast")
    assert all(found.clips == 4 for found in tuned.found)
    assert tuned.best in tuned.found
    settings = inspect_archive(archive).config.videopure.purification
    for key, value in tuned.best.choice.changes.items():
        chosen = getattr(settings, key)
        assert (list(chosen) if isinstance(value, list) else chosen) == value
    if tuned.written:
        assert settings.suspicion_threshold is None


def test_without_labels_the_recognisers_own_answers_are_right(archive: Path, videos: Path) -> None:
    tuned = tune(
        archive, videos, labelled=False, count=4, workers=0, steps=(), strengths=(), speeds=()
    )
    assert tuned.bare[0] == 4
    assert not tuned.written


def test_the_command_tunes_shows_and_writes(archive: Path, videos: Path, tmp_path: Path) -> None:
    before = archive.read_bytes()
    picture = tmp_path / "tune.png"
    asked = [
        *("tune", str(videos), "--archive", str(archive), "--clips", "2", "--workers", "1"),
        *("--t", "0,1", "--guidance", "", "--speed", ""),
    ]
    done = CliRunner().invoke(app, [*asked, "--picture", str(picture)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "2 clips, by their labels; 95 % intervals" in said
    assert said.count("recommended") >= 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert archive.read_bytes() == before  # not asked to write
    done = CliRunner().invoke(app, [*asked, "--write", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert [row["name"] for row in told["found"]] == ["as it is", "t = 0", "t = 1"]
    assert told["written"] is bool(told["best"]["changes"])
    served = inspect_archive(archive).config.videopure.purification
    assert served.inversion_steps == told["best"]["changes"].get("inversion_steps", 2)
    if told["written"]:
        assert served.suspicion_threshold is None


def test_the_command_names_what_cannot_be_tuned(archive: Path, videos: Path) -> None:
    for asked, message in (
        ([str(videos), "--t", "60"], "inversion_steps must be in 0..49"),
        (["nowhere"], "clips must be 'demo', a folder or a CSV file, got 'nowhere'"),
        ([str(videos), "--t", "one"], "'one'"),
    ):
        done = CliRunner().invoke(app, ["tune", *asked, "--archive", str(archive), "--clips", "2"])
        assert done.exit_code == 1
        assert message in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("kept", "milliseconds", "wins"),
    [
        ((10, 9), 100, True),  # two more
        ((10, 8), 100, False),  # one more is chance
        ((10, 8), 70, True),  # and cheaper
        ((9, 7), 70, True),  # one fewer is chance, too
        ((9, 6), 10, False),
    ],
)
def test_what_keeps_more_or_as_much_for_less_is_better(
    kept: tuple[int, int], milliseconds: float, wins: bool
) -> None:
    best = Found(Choice("as it is"), 10, 7, 10, 100)
    other = Found(Choice("other"), *kept, 10, milliseconds)
    assert (better(best, other) is other) is wins
