"""The sample videos that come with the project do what they are there for."""

from pathlib import Path

import pytest
import torch

from videopure.demo import SAMPLES
from videopure.demo.samples import write_samples
from videopure.format.settings import Limits
from videopure.handler.video import read_clip
from videopure.motions import BUNDLE
from videopure.motions.bundle_files import load_defended
from videopure.motions.clips import CLASSES
from videopure.purifier import DefendedRecogniser

pytestmark = pytest.mark.integration

PAIRS = sorted(path.name.removesuffix("-clean.mp4") for path in SAMPLES.glob("*-clean.mp4"))


@pytest.fixture(scope="module")
def defended() -> DefendedRecogniser:
    return load_defended(BUNDLE)


def clip_of(path: Path) -> torch.Tensor:
    return read_clip(path.read_bytes(), 16, (64, 64), Limits()).frames[None]


def test_there_are_samples_of_several_classes_in_a_small_space() -> None:
    assert len(PAIRS) >= 3
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 2_000_000


@pytest.mark.parametrize("name", PAIRS)
def test_the_attack_survives_the_file_and_not_the_purifier(
    defended: DefendedRecogniser, name: str
) -> None:
    clean, attacked = (clip_of(SAMPLES / f"{name}-{kind}.mp4") for kind in ("clean", "attacked"))
    assert 0 < (clean - attacked).abs().max().item() <= 8 / 255 + 1e-6
    truth = CLASSES.index(name.replace("-", " "))
    for clip, fooled in ((clean, False), (attacked, True)):
        (verdict,) = defended.answer(clip).verdicts
        assert (int(verdict.undefended.argmax()) != truth) == fooled
        assert verdict.label_id == truth


def test_new_samples_are_written_by_the_same_program(tmp_path: Path) -> None:
    written = write_samples(tmp_path, BUNDLE, ("grows",))
    assert [path.name for path in written] == ["grows-clean.mp4", "grows-attacked.mp4"]
    assert torch.equal(clip_of(written[0]), clip_of(SAMPLES / "grows-clean.mp4"))
    with pytest.raises(ValueError, match=r"names must be of .*got 'grow'"):
        write_samples(tmp_path, BUNDLE, ("grow",))
