"""The demo's clips: seeded, disjoint, and told apart by motion alone."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from videopure.evaluation.defences.filters import (
    gaussian_blur,
    h264,
    jpeg,
    temporal_median,
    temporal_shuffle,
)
from videopure.motions.clips import (
    CLASSES,
    FRAME_SIZE,
    NUM_FRAMES,
    SPLITS,
    Frames,
    Stream,
    contact_sheet,
    make_clip,
    write_video,
)

pytestmark = pytest.mark.unit


def read(path: object) -> Frames:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@pytest.mark.parametrize("label_id", range(len(CLASSES)))
def test_a_clip_has_the_stated_shape_and_is_repeatable(label_id: int) -> None:
    clip = make_clip(label_id, seed=7)
    assert clip.shape == (NUM_FRAMES, FRAME_SIZE, FRAME_SIZE, 3)
    assert clip.dtype == np.uint8
    assert np.array_equal(clip, make_clip(label_id, seed=7))
    assert not np.array_equal(clip, make_clip(label_id, seed=8))


def test_no_clip_is_in_two_splits() -> None:
    clips = [Stream(split).clip(3)[0].tobytes() for split in SPLITS]
    assert len(set(clips)) == len(SPLITS)


def test_classes_take_turns() -> None:
    labels = [Stream("test").clip(i)[1] for i in range(20)]
    assert labels == list(range(10)) * 2


def test_a_batch_is_the_clips_one_by_one() -> None:
    stream = Stream("validation")
    frames, labels = stream.batch(4, 3)
    assert labels.tolist() == [4, 5, 6]
    assert np.array_equal(frames[1], stream.clip(5)[0])


def sprite_mask(clip: Frames) -> np.ndarray:
    """Where the sprite is: far from the background's colour, in every frame."""
    background = np.median(clip.reshape(-1, 3), axis=0)
    return np.abs(clip.astype(float) - background).max(axis=-1) > 45


def centres(clip: Frames) -> np.ndarray:
    return np.array([np.argwhere(mask).mean(axis=0) for mask in sprite_mask(clip)])  # y, x


@pytest.mark.parametrize(
    ("name", "axis", "sign"),
    [("moves left", 1, -1), ("moves right", 1, 1), ("moves up", 0, -1), ("moves down", 0, 1)],
)
def test_what_moves_moves_in_its_direction(name: str, axis: int, sign: int) -> None:
    travelled = [
        sign * np.subtract(*centres(make_clip(CLASSES.index(name), seed))[[-1, 0], axis])
        for seed in range(10)
    ]
    assert min(travelled) > 10


@pytest.mark.parametrize(("name", "sign"), [("grows", 1), ("shrinks", -1)])
def test_what_grows_covers_more_and_more(name: str, sign: int) -> None:
    for seed in range(10):
        area = sprite_mask(make_clip(CLASSES.index(name), seed)).sum(axis=(1, 2))
        assert sign * (np.log(area[-1]) - np.log(area[0])) > 0.5


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"label_id must be in 0..9, got 10"):
        make_clip(10, 0)
    with pytest.raises(ValueError, match="seed must not be negative, got -1"):
        make_clip(0, -1)
    with pytest.raises(ValueError, match=r"split must be one of .*, got 'dev'"):
        Stream("dev")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="i must be in"):
        Stream("test").clip(-1)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.mkv"])
def test_a_lossless_file_keeps_every_pixel(name: str, tmp_path: Path) -> None:
    clip = make_clip(2, 5)
    assert np.array_equal(read(write_video(clip, tmp_path / name)), clip)


def test_a_lossy_file_is_close(tmp_path: Path) -> None:
    clip = make_clip(2, 5)
    back = read(write_video(clip, tmp_path / "clip.mp4", lossless=False))
    assert back.shape == clip.shape
    assert 0 < np.abs(back.astype(float) - clip).mean() < 10


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    clip = make_clip(0, 0)
    with pytest.raises(ValueError, match=r"path must end in .*, got clip\.xyz"):
        write_video(clip, tmp_path / "clip.xyz")
    with pytest.raises(ValueError, match="frames must be uint8"):
        write_video(clip[0], tmp_path / "clip.mp4")


def test_the_contact_sheet_shows_every_class(tmp_path: Path) -> None:
    sheet = cv2.imread(str(contact_sheet(tmp_path / "sheet.png", every=4, zoom=1)))
    assert sheet is not None
    assert sheet.shape == (len(CLASSES) * FRAME_SIZE, 110 + 4 * FRAME_SIZE, 3)


def test_filters_keep_shape_and_change_little() -> None:
    torch = pytest.importorskip("torch")
    clip = torch.from_numpy(make_clip(1, 1)).permute(0, 3, 1, 2)[None].float() / 255
    for clean_up in (jpeg, h264, gaussian_blur, temporal_median):
        back = clean_up(clip)
        assert back.shape == clip.shape
        assert 0 < float((back - clip).abs().mean()) < 0.05


def test_the_encoder_gives_the_same_answer_again() -> None:
    """Its fastest code does not: results that are stored and resumed would not fit together."""
    torch = pytest.importorskip("torch")
    clip = torch.from_numpy(make_clip(1, 1)).permute(0, 3, 1, 2)[None].float() / 255
    noise = torch.rand(clip.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    attacked = (clip + noise * 8 / 255).clamp(0, 1)
    first = h264(attacked)
    assert all(torch.equal(h264(attacked), first) for _ in range(20))


def test_shuffle_moves_frames_within_their_window_alone() -> None:
    torch = pytest.importorskip("torch")
    numbered = torch.arange(7.0).view(1, 7, 1, 1, 1).expand(2, 7, 3, 2, 2)
    order = temporal_shuffle(numbered, window=3, seed=1)[0, :, 0, 0, 0].tolist()
    assert [sorted(order[i : i + 3]) for i in (0, 3, 6)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert order != sorted(order)
    with pytest.raises(ValueError, match=r"window must be in 2\.\.7 frames, got 8"):
        temporal_shuffle(numbered, window=8)
