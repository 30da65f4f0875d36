"""`videopure harden`: from an archive and videos to an archive that serves what was trained."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.support.bright_clips import BrightClips
from tests.support.models import LABELS, save_recogniser
from tests.support.pipelines import save_patch_pipeline
from tests.support.recognisers import save_transformers
from tests.support.videos import encode, frames
from videopure.archive import BuildError, build_archive, inspect_archive, verify_archive
from videopure.archive.configure import configure_archive
from videopure.format.loading import load_archive
from videopure.format.opening import digest_archive
from videopure.training.adversarial import HardenRecipe
from videopure.training.clips import ClipError, MotionClips, VideoClips, open_clips
from videopure.training.harden import harden

pytestmark = pytest.mark.integration

COMMAND = Path(sys.executable).with_name("videopure")
# torch's launcher: accelerate's starts several processes on GPUs alone.
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
RECIPE = HardenRecipe(
    clips=24, batch=4, epsilon=4.0, validate_every=3, validation_clips=4, validation_steps=2
)
ONE_LOOK = {"method": "one_look", "inversion_steps": 1}
UNET = "pipeline/unet/diffusion_pytorch_model.safetensors"
RECOGNISER = "recogniser/model.safetensors"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soft")
    settings = {"purification": {"inversion_steps": 2, "suspicion_threshold": 0.5}}
    return build_archive(
        save_recogniser(folder / "recogniser"),
        save_patch_pipeline(folder / "pipeline"),
        folder / "videopure.mar",
        settings=settings,
    )


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A CSV of twenty videos of two classes."""
    rows = ["path,label"]
    for k in range(20):
        pixels = frames(6, seed=k)
        (tmp_path / f"{k}.mp4").write_bytes(encode(pixels if k % 2 else pixels[::-1]))
        rows.append(f"{k}.mp4,{LABELS[k % 2]}")
    file = tmp_path / "videos.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def stored(archive: Path, name: str, folder: Path) -> dict[str, Tensor]:
    with ZipFile(archive) as packed:
        return load_file(packed.extract(name, folder / archive.stem))


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    """Whether any tensor has another value; names, shapes and dtypes must be the same."""
    assert {k: (v.shape, v.dtype) for k, v in before.items()} == {
        k: (v.shape, v.dtype) for k, v in after.items()
    }
    return any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("train", "trained"),
    [("purifier", {UNET}), ("recogniser", {RECOGNISER}), ("both", {UNET, RECOGNISER})],
)
def test_a_hardened_archive_serves_what_was_trained_in_its_layout(
    archive: Path, tmp_path: Path, train: str, trained: set[str]
) -> None:
    recipe = replace(RECIPE, train=train)  # type: ignore[arg-type]
    out = tmp_path / "hard.mar"
    result = harden(archive, BrightClips(4, (16, 24)), out, recipe, purification=ONE_LOOK)
    summary = verify_archive(out)  # every file as recorded, dtypes included
    for name in (UNET, RECOGNISER):
        before, after = stored(archive, name, tmp_path), stored(out, name, tmp_path)
        assert changed(before, after) == (name in trained), name
    assert summary.manifest.name == "hard"
    (record,) = summary.manifest.hardening
    assert (record.train, record.method, record.recipe["epsilon"]) == (train, "one_look", 4.0)
    assert (record.attacked, record.clean) == (result.after.attacked, result.after.clean)
    purification = summary.config.videopure.purification
    assert (purification.method, purification.inversion_steps) == ("one_look", 1)
    assert purification.suspicion_threshold is None  # it was another purifier's
    cards = sorted(n for n in ZipFile(out).namelist() if n.endswith("README.md"))
    assert cards == [f"{name.split('/')[0]}/README.md" for name in sorted(trained)]
    for card in cards:
        assert "## Hardened" in ZipFile(out).read(card).decode()
    assert inspect_archive(archive).manifest.hardening == []  # it stays as it was


def test_a_transformers_folder_stays_one(tmp_path: Path) -> None:
    from transformers import AutoModelForVideoClassification

    save_transformers("videomae", tmp_path / "recogniser")
    pipeline = save_patch_pipeline(tmp_path / "pipeline")
    archive = build_archive(tmp_path / "recogniser", pipeline, tmp_path / "soft.mar")
    recipe = replace(RECIPE, train="recogniser", clips=8)
    harden(archive, BrightClips(4, (16, 16)), tmp_path / "hard.mar", recipe, purification=ONE_LOOK)
    verify_archive(tmp_path / "hard.mar")
    ZipFile(tmp_path / "hard.mar").extractall(tmp_path / "hard")
    folder = tmp_path / "hard" / "recogniser"
    model, found = AutoModelForVideoClassification.from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert model.config.id2label == {0: "wave", 1: "jump", 2: "run"}
    old = load_file(tmp_path / "recogniser" / "model.safetensors")
    assert changed(old, load_file(folder / "model.safetensors"))


def test_a_checkpoint_of_another_run_is_refused(archive: Path, tmp_path: Path) -> None:
    clips, out = BrightClips(4, (16, 24)), tmp_path / "hard.mar"
    recipe = replace(RECIPE, clips=4, train="recogniser")
    first = harden(archive, clips, out, recipe, purification=ONE_LOOK)
    again = harden(archive, clips, out, recipe, purification=ONE_LOOK)  # nothing is left to do
    assert again.after == first.after
    with pytest.raises(ValueError, match="checkpoint is of another run, with other epsilon:"):
        harden(archive, clips, out, replace(recipe, epsilon=5.0), purification=ONE_LOOK)


def test_what_was_hardened_may_be_hardened_again(archive: Path, tmp_path: Path) -> None:
    """The control first, then both: each time stands in the manifest and in the cards."""
    clips, places = BrightClips(4, (16, 24)), [archive, tmp_path / "one.mar", tmp_path / "two.mar"]
    short = replace(RECIPE, clips=4)
    harden(*(places[0], clips, places[1]), replace(short, train="recogniser", bare=True))
    harden(*(places[1], clips, places[2]), short, purification=ONE_LOOK)
    records = inspect_archive(places[2]).manifest.hardening
    assert [(r.train, r.method) for r in records] == [("recogniser", "none"), ("both", "one_look")]
    assert records[1].source == digest_archive(places[1])
    with ZipFile(places[2]) as packed:
        assert packed.read("recogniser/README.md").decode().count("## Hardened") == 2
        assert packed.read("pipeline/README.md").decode().count("## Hardened") == 1


def test_thin_archives_are_refused(tmp_path: Path) -> None:
    from videopure.archive import BuildSpec, build

    spec = BuildSpec(
        recogniser=save_recogniser(tmp_path / "recogniser"),
        pipeline=save_patch_pipeline(tmp_path / "pipeline"),
        out=tmp_path / "thin.mar",
        name="thin",
        thin=True,
        trial=False,
    )
    with pytest.raises(BuildError, match=r"is thin, .* build it without --thin"):
        harden(build(spec), BrightClips(4, (16, 24)), tmp_path / "hard.mar", RECIPE)


def test_videos_are_read_as_the_server_reads_them(
    archive: Path, videos: Path, tmp_path: Path
) -> None:
    recogniser = load_archive(archive, torch.device("cpu")).defended.recogniser
    clips = open_clips(str(videos), recogniser)
    assert isinstance(clips, VideoClips)
    shown, labels = clips.batch(5, torch.Generator().manual_seed(0))
    assert shown.shape == (5, 4, 3, 16, 24)
    assert labels is not None
    # Those of class 1 get brighter, those of class 0 darker.
    brighter = shown[:, -1].mean(dim=(1, 2, 3)) > shown[:, 0].mean(dim=(1, 2, 3))
    assert labels.tolist() == brighter.long().tolist()
    held_out, _ = clips.validation(40)
    many, _ = clips.batch(60, torch.Generator().manual_seed(1))
    assert len(held_out) == 2
    assert not any(torch.equal(held_out[0], clip) for clip in many)


def test_a_video_beyond_the_archives_limits_is_not_trained_on(
    archive: Path, videos: Path, tmp_path: Path
) -> None:
    limited = tmp_path / "limited.mar"
    shutil.copy(archive, limited)
    configure_archive(limited, {"videopure": {"limits": {"max_frames": 2}}})
    with pytest.raises(ClipError, match=r"none of 2 videos can be read.*more than the 2 allowed"):
        harden(limited, str(videos), tmp_path / "hard.mar", RECIPE)


def test_videos_that_cannot_be_read_are_skipped_and_named(archive: Path, videos: Path) -> None:
    recogniser = load_archive(archive, torch.device("cpu")).defended.recogniser
    for k in range(20):
        if k not in (3, 4, 5, 6):
            (videos.parent / f"{k}.mp4").write_bytes(b"no video")
    clips = open_clips(str(videos), recogniser)
    shown, labels = clips.batch(8, torch.Generator().manual_seed(0))
    assert labels is not None
    brighter = shown[:, -1].mean(dim=(1, 2, 3)) > shown[:, 0].mean(dim=(1, 2, 3))
    assert labels.tolist() == brighter.long().tolist()
    for _ in range(9):
        clips.batch(8, torch.Generator().manual_seed(1))
    assert "0.mp4: the 8 bytes sent are not a video" in " ".join(clips.skipped.values())
    assert not any(f"{k}.mp4" == path.name for path in clips.skipped for k in (3, 4, 5, 6))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere", "clips must be 'demo', a folder or a CSV file, got 'nowhere'"),
        ("demo", "'tiny' does not know the classes of the demo's clips"),
        ("loose", r"0\.mp4 is not in a class folder"),
        ("unknown", "'tiny' does not know 'fly'; it knows"),
        ("headless", "needs a first line that names the columns path and label, got 0.mp4"),
    ],
)
def test_clips_that_cannot_be_used_are_named(
    archive: Path, videos: Path, data: str, message: str
) -> None:
    recogniser = load_archive(archive, torch.device("cpu")).defended.recogniser
    folder = videos.parent
    (folder / "unknown.csv").write_text("path,label\n0.mp4,fly\n")
    (folder / "headless.csv").write_text("0.mp4\n")
    places = {
        "loose": folder,
        "unknown": folder / "unknown.csv",
        "headless": folder / "headless.csv",
    }
    with pytest.raises(ClipError, match=message):
        open_clips(str(places.get(data, data)), recogniser)


def test_the_motions_are_drawn_anew_with_their_classes() -> None:
    from videopure.motions.bundle_files import load_defended

    recogniser = load_defended().recogniser
    clips = open_clips("demo", recogniser)
    assert isinstance(clips, MotionClips)
    shown, labels = clips.batch(12, torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers = recogniser.logits(shown).argmax(1)
    assert (answers == labels).float().mean() > 0.9  # mirrored and reversed, labels follow
    again, _ = clips.batch(12, torch.Generator().manual_seed(0))
    other, _ = clips.batch(12, torch.Generator().manual_seed(1))
    assert torch.equal(shown, again)
    assert not torch.equal(shown, other)


def run(*command: str | Path) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_command_hardens_on_unlabelled_videos_in_two_processes(
    archive: Path, videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "hard.mar"
    printed = run(
        *(*TWO, COMMAND, "harden", archive, "--out", out, "--data", videos, "--unlabelled"),
        *("--method", "one_look", "--clips", "16", "--batch", "4", "--epsilon", "4"),
        *("--validate-every", "2", "--validation-clips", "2", "--threads", "1"),
    )
    assert printed.count("Hardened archive:") == 1
    shown = run(COMMAND, "inspect", out)
    assert f"hardened: both through one_look, 16 clips of {videos}" in shown
    (record,) = verify_archive(out).manifest.hardening
    assert (record.processes, record.labelled, record.clips) == (2, False, str(videos))


def test_clips_that_other_processes_draw_are_those_of_this_one() -> None:
    from videopure.motions.bundle_files import load_defended

    recogniser = load_defended().recogniser
    here, there = MotionClips(recogniser), MotionClips(recogniser, workers=1)
    try:
        generators = [torch.Generator().manual_seed(7) for _ in range(2)]
        for _ in range(2):  # the second batch goes on where the first one left the generator
            first, second = (c.batch(3, g) for c, g in zip((here, there), generators, strict=True))
            assert torch.equal(first[0], second[0])
            assert torch.equal(first[1], second[1])
    finally:
        there.close()
