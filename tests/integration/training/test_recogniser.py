"""The plain trainer of a recogniser, for trying things with videos of one's own."""

from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file
from transformers import AutoModelForVideoClassification

from tests.support.models import save_recogniser
from tests.support.recognisers import save_transformers
from tests.support.videos import encode, frames
from videopure.evaluation.videos import read_video
from videopure.format.settings import Limits
from videopure.purifier import load_recogniser
from videopure.training.recogniser import main

pytestmark = pytest.mark.integration


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Three videos of each of two classes, and one that is none."""
    for label in ("jump", "wave"):
        (tmp_path / "videos" / label).mkdir(parents=True)
        for k in range(3):
            video = encode(frames(6, 32, 32, seed=k if label == "wave" else 10 + k))
            (tmp_path / "videos" / label / f"{k}.mp4").write_bytes(video)
    (tmp_path / "videos" / "wave" / "text.mp4").write_text("no video")
    return tmp_path / "videos"


def test_what_is_trained_knows_its_classes_and_threads_change_nothing(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for workers in (0, 2):
        out = tmp_path / f"with-{workers}"
        main(videos, out, frames=4, size=16, width=4, steps=3, workers=workers)
        said = capsys.readouterr().out
        assert "of 1 held-out videos are recognised" in said
        assert "text.mp4: the 8 bytes sent are not a video" in said
    recogniser = load_recogniser(tmp_path / "with-0")
    assert list(recogniser.labels) == ["jump", "wave"]
    clip = read_video(videos / "wave" / "0.mp4", recogniser, Limits()).frames
    assert recogniser.logits(clip[None]).shape == (1, 2)
    first, second = (load_file(tmp_path / f"with-{n}" / "model.safetensors") for n in (0, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("family", ["videomae", "vivit"])
def test_a_transformers_recogniser_is_fine_tuned_to_other_classes(
    family: str, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, out = tmp_path / "start", tmp_path / "tuned"
    before = save_transformers(family, start)  # of three classes
    main(videos, out, start=start, steps=3, rate=1e-3, workers=0)
    assert "of 1 held-out videos are recognised" in capsys.readouterr().out
    model: Any = AutoModelForVideoClassification.from_pretrained(out)
    assert model.config.id2label == {0: "jump", 1: "wave"}
    weights = dict(before.named_parameters())
    changed = [
        not torch.equal(value, weights[name])
        for name, value in model.named_parameters()
        if value.shape == weights[name].shape
    ]
    assert sum(changed) > len(changed) / 2
    recogniser = load_recogniser(out)
    assert list(recogniser.labels) == ["jump", "wave"]
    old = load_recogniser(start)
    assert recogniser.frame_size == old.frame_size
    assert recogniser.framing == old.framing
    clip = torch.rand((1, 4, 3, 16, 16))
    expected = model.eval()(pixel_values=old.normalise(clip)).logits
    assert torch.allclose(recogniser.logits(clip), expected, atol=1e-5)
    again = tmp_path / "again"  # with the classes that it has: its head stays
    main(videos, again, start=out, steps=3, rate=1e-3, workers=0)
    first, second = (load_file(place / "model.safetensors") for place in (out, again))
    assert first.keys() == second.keys()
    assert not torch.equal(first["classifier.weight"], second["classifier.weight"])


def test_only_a_transformers_folder_is_fine_tuned(videos: Path, tmp_path: Path) -> None:
    own = save_recogniser(tmp_path / "own")
    with pytest.raises(typer.BadParameter, match="start must be a transformers folder"):
        main(videos, tmp_path / "out", start=own)
