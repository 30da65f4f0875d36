"""`videopure train`: from videos without labels to a pipeline that an archive is built with."""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch.testing import assert_close
from typer.testing import CliRunner

from tests.support.disk import files_of_at_most
from tests.support.load import wait_for
from tests.support.models import save_recogniser, tiny_recogniser
from tests.support.videos import encode, frames
from videopure.archive import build_archive, inspect_archive
from videopure.cli.main import app
from videopure.cli.options import STOPPED
from videopure.evaluation.store import EvaluationError
from videopure.evaluation.videos import ClipError
from videopure.format.settings import Limits
from videopure.handler.video import read_clip
from videopure.training import loop, unet
from videopure.training.decoded import decode_videos
from videopure.training.train import train
from videopure.training.unet import UNetRecipe

pytestmark = pytest.mark.integration

RECOGNISER = tiny_recogniser(4, (16, 24))
RECIPE = UNetRecipe(steps=4, batch=2, validate_every=2, max_timestep=60)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good videos, and one of each kind that is not."""
    folder = tmp_path_factory.mktemp("videos")
    for k in range(4):
        (folder / f"{k}.mp4").write_bytes(encode(frames(12, 32, 48, seed=k)))
    (folder / "tiny.mp4").write_bytes(encode(frames(12, 8, 10)))
    (folder / "short.mp4").write_bytes(encode(frames(3, 32, 48)))
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def trained(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, which lies beside its workplace."""
    out = tmp_path_factory.mktemp("trained") / "purifier"
    result = train(videos, RECOGNISER, out, RECIPE, licence="apache-2.0", views=2)
    assert result.videos == 3
    told = " ".join(result.skipped)
    assert "tiny.mp4: its frames of 10x8 pixels are less than half of the 24x16" in told
    assert "short.mp4: it has 3 frames, fewer than the 4 of a clip" in told
    assert "text.mp4: the 8 bytes sent are not a video" in told
    assert len(result.skipped) == 3
    return out


def test_what_is_trained_is_what_build_takes(trained: Path, tmp_path: Path) -> None:
    archive = build_archive(
        save_recogniser(tmp_path / "recogniser"), trained, tmp_path / "videopure.mar"
    )
    inspected = inspect_archive(archive)
    purifier = inspected.manifest.purifier
    assert purifier.licence == "apache-2.0"
    assert inspected.config.videopure.purification.inversion_steps == 2  # levels up to 41 of 60
    assert {"UNet3DConditionModel", "PatchCodec"} <= set(purifier.classes.values())


def test_the_command_takes_the_frames_of_a_recogniser(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "purifier"
    asked = [
        *("train", str(videos), "--recogniser", str(save_recogniser(tmp_path / "recogniser"))),
        *("--out", str(out), "--clips", "2", "--batch", "2", "--views", "1", "--threads", "1"),
    ]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "Trained on 3 videos" in said
    assert "waiting for clips" in said
    assert "Skipped 3 videos that cannot be read" in said
    assert (out / "model_index.json").is_file()
    done = CliRunner().invoke(app, ["train", str(videos), "--out", str(out)])
    assert done.exit_code == 2
    assert "give either --recogniser or --archive" in done.output


def test_log_and_pictures_lie_in_the_workplace(trained: Path) -> None:
    place = trained.with_name("purifier.training")
    log = json.loads((place / "log.json").read_text())
    assert [entry["step"] for entry in log["validation"]] == [2, 4]
    assert log["precision"] == "float32"  # of a CPU, unasked
    assert log["videos"] == 3
    assert "1" in log["one_step_psnr_db"]
    for name in ("curve.png", "samples.png"):
        assert (place / name).read_bytes().startswith(b"\x89PNG")
    # Pictures of somebody's videos do not go into the archive.
    assert not list(trained.rglob("*.png"))


def test_a_stopped_run_goes_on_to_the_same_weights(
    videos: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "purifier", []
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def stop(step: str) -> None:
        calls.append(step)

    whole = unet.UNetTrainer.step

    def broken(self: unet.UNetTrainer, index: int) -> dict[str, float]:
        if index == 3:
            raise KeyboardInterrupt
        return whole(self, index)

    monkeypatch.setattr(unet.UNetTrainer, "step", broken)
    with pytest.raises(KeyboardInterrupt):
        train(videos, RECOGNISER, out, RECIPE, views=2, report=stop, workers=0)
    assert not out.exists()
    monkeypatch.setattr(unet.UNetTrainer, "step", whole)
    result = train(videos, RECOGNISER, out, RECIPE, views=2, workers=0)
    assert result.found.log.resumed == 1
    name = "unet/diffusion_pytorch_model.safetensors"
    # Half precision rounds what the last bit of a sum differs by.
    assert_close(load_file(out / name), load_file(trained / name), rtol=1e-2, atol=1e-3)


def test_an_interrupted_command_says_how_to_go_on(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: unet.UNetTrainer, index: int) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(unet.UNetTrainer, "step", interrupted)
    asked = ["--recogniser", str(save_recogniser(tmp_path / "recogniser"))]
    out = tmp_path / "purifier"
    done = CliRunner().invoke(app, ["train", str(videos), *asked, "--out", str(out)])
    assert done.exit_code == STOPPED
    assert "Stopped. Run the same command to resume." in done.output
    assert not out.exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_when_the_same_command_is_given_again(
    videos: Path, tmp_path: Path
) -> None:
    """By SIGKILL, once there is a checkpoint."""
    recogniser = str(save_recogniser(tmp_path / "recogniser"))
    command = [
        *(sys.executable, "-c"),
        "from videopure.training import loop; loop._SECONDS_BETWEEN_CHECKPOINTS = -1;"
        "from videopure.cli.main import main; main()",
        *("train", str(videos), "--recogniser", recogniser, "--clips", "120", "--batch", "2"),
        *("--views", "1", "--threads", "1", "--out"),
    ]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL) as run:
        checkpoint = tmp_path / "killed.training" / "checkpoint.pt"
        wait_for(checkpoint.exists, "a checkpoint")
        run.kill()
    assert not killed.exists()
    for out in (killed, whole):
        subprocess.run([*command, str(out)], check=True, capture_output=True)
    logs = [
        json.loads((out.parent / f"{out.name}.training" / "log.json").read_text())
        for out in (killed, whole)
    ]
    assert [log["resumed"] for log in logs] == [1, 0]
    name = "unet/diffusion_pytorch_model.safetensors"
    # Half precision rounds what the last bit of a sum differs by.
    assert_close(load_file(killed / name), load_file(whole / name), rtol=1e-2, atol=1e-3)


def test_a_video_that_changed_in_between_is_noticed(videos: Path, tmp_path: Path) -> None:
    files = [Path(shutil.copy(videos / f"{k}.mp4", tmp_path)) for k in range(2)]
    place = tmp_path / "clips"
    decode_videos(files, RECOGNISER, place, limits=Limits(), workers=0)
    files[1].write_bytes((videos / "2.mp4").read_bytes())
    with pytest.raises(ClipError, match="clips of an earlier run with other videos: remove it"):
        decode_videos(files, RECOGNISER, place, limits=Limits(), workers=0)


def test_a_disk_that_fills_up_in_training_loses_nothing(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "purifier"
    # Room for the clips and none for a checkpoint.
    with files_of_at_most(200_000), pytest.raises(EvaluationError, match="takes no larger files"):
        train(videos, RECOGNISER, out, RECIPE, views=2, workers=0)
    assert not out.exists()

    def fill(step: str) -> None:
        if step == "Writing the pipeline":
            limited.enter_context(files_of_at_most(1000))

    # Room for all but the weights that came of it.
    with ExitStack() as limited, pytest.raises(EvaluationError, match="takes no larger files"):
        train(videos, RECOGNISER, out, RECIPE, views=2, workers=0, report=fill)
    assert not out.exists()
    result = train(videos, RECOGNISER, out, RECIPE, views=2, workers=0)
    assert (out / "model_index.json").is_file()
    assert len(result.skipped) == 3  # known without decoding anything again


def test_a_checkpoint_of_another_run_is_refused(videos: Path, trained: Path) -> None:
    with pytest.raises(ValueError, match="another run, with other batch: remove it"):
        train(videos, RECOGNISER, trained, replace(RECIPE, batch=1), views=2, workers=0)


def test_a_changed_folder_is_noticed(videos: Path, trained: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{videos}/0.mp4\n{videos}/1.mp4\n")
    with pytest.raises(ClipError, match="clips of an earlier run with other videos, shape: remove"):
        train(listed, RECOGNISER, trained, RECIPE, views=2, workers=0)


def test_one_view_of_a_video_is_what_the_server_sees(videos: Path, tmp_path: Path) -> None:
    files = [videos / "0.mp4", videos / "1.mp4"]
    clips = decode_videos(
        files, RECOGNISER, tmp_path / "clips", limits=Limits(), views=3, workers=0
    )
    served = read_clip(files[1].read_bytes(), 4, (16, 24), Limits()).frames
    assert torch.equal(clips.frames[1, 1], (served * 255).round().byte())
    shown, _ = clips.batch(8, torch.Generator().manual_seed(0))
    assert shown.shape == (8, 4, 3, 16, 24)
    # One video is held out: all that is trained on is of the other.
    kept = clips.frames[clips.training].float() / 255
    assert all(
        any(torch.equal(clip, seen.flip(d)) for seen in kept[0] for d in ((), (3,), (0,), (0, 3)))
        for clip in shown
    )


def test_decoding_goes_on_where_it_was_stopped(videos: Path, tmp_path: Path) -> None:
    files = sorted(videos.glob("*.mp4"))
    place = tmp_path / "clips"
    first = decode_videos(files, RECOGNISER, place, limits=Limits(), workers=0)
    lines = (place / "videos.jsonl").read_text().splitlines(keepends=True)
    # As a kill leaves it: three videos done, the line of the fourth cut.
    (place / "videos.jsonl").write_text("".join(lines[:3]) + lines[3][:2])
    again = decode_videos(files, RECOGNISER, place, limits=Limits(), workers=0)
    assert torch.equal(first.frames, again.frames)
    assert again.skipped == first.skipped
    assert len((place / "videos.jsonl").read_text().splitlines()) == len(files)


def test_a_codec_of_ones_own_is_kept_as_it_is(videos: Path, tmp_path: Path) -> None:
    codec = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=4,
    )
    codec.save_pretrained(tmp_path / "codec")
    recipe = replace(RECIPE, steps=1)
    out = tmp_path / "purifier"
    train(videos, RECOGNISER, out, recipe, codec=tmp_path / "codec", views=1, workers=0)
    kept = AutoencoderTiny.from_pretrained(out / "vae", torch_dtype=torch.float16)
    for name, weight in codec.half().state_dict().items():
        assert torch.equal(kept.state_dict()[name], weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "XL"}, "size must be one of S, M, L, got 'XL'"),
        ({"precision": "bfloat16"}, "needs a GPU that computes in it, and this cpu does not"),
        ({"codec": Path("nowhere")}, r"codec nowhere has no config\.json"),
        ({"recogniser": tiny_recogniser(4, (12, 24))}, "size S needs multiples of 8: use size M"),
        ({"views": 0}, "views must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_trained_is_said_first(
    videos: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    asked = {"videos": videos, "recogniser": RECOGNISER, "out": tmp_path / "out", **changes}
    with pytest.raises(ValueError, match=message):
        train(**asked, recipe=RECIPE, workers=0)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_said_before_anything_is_decoded(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    def full(*place: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(EvaluationError, match="is full"):
        decode_videos(
            [videos / "0.mp4"] * 2, RECOGNISER, tmp_path / "clips", limits=Limits(), workers=0
        )
