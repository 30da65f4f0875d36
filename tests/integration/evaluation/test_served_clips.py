"""The evaluation attacks the very pixels that the server hands to its recogniser."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity import FIXTURE, load_pipeline
from tests.support.models import LABELS, tiny_recogniser
from tests.support.videos import encode, frames
from videopure.evaluation.data import open_source
from videopure.evaluation.store import EvaluationError
from videopure.format.settings import HandlerSettings, Limits
from videopure.handler.service import VideoPureService
from videopure.purifier import DefendedRecogniser, Framing, NetworkRecogniser, PurifySettings
from videopure.wire.schemas import ModelNames

pytestmark = pytest.mark.integration

SIZE = (16, 24)
NAMES = ModelNames(name="tiny", version="1", recogniser="tiny", purifier="tiny")
FRAMINGS = [
    Framing(SIZE),
    Framing(SIZE, sampling="start"),
    Framing(SIZE, sampling="time"),
    Framing(SIZE, resize=30, interpolation="bicubic"),
    Framing(SIZE, resize=(20, 40), antialias=False, centre="round", sampling="start"),
]


class Recording(NetworkRecogniser):
    """A recogniser that keeps the clips it is first shown."""

    seen: Tensor | None = None

    def logits(self, clips: Tensor) -> Tensor:
        """As of any recogniser."""
        if self.seen is None:
            self.seen = clips.clone()
        return super().logits(clips)


def recogniser(framing: Framing) -> Recording:
    plain = tiny_recogniser(3, SIZE)
    recording = Recording(plain.network, "tiny", 3, SIZE, LABELS)
    recording.framing = framing
    return recording.eval().requires_grad_(False)


def served(video: bytes, framing: Framing) -> Tensor:
    """What the server's recogniser sees of a video: [T, 3, H, W]."""
    recording = recogniser(framing)
    defended = DefendedRecogniser(
        load_pipeline(FIXTURE), recording, PurifySettings(inversion_steps=0)
    )
    service = VideoPureService(defended, HandlerSettings(), NAMES)
    (reply,) = service.answer([{"body": bytearray(video)}], ["one"]).replies
    assert reply.status == 200, reply.body
    assert recording.seen is not None
    return recording.seen[0]


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
@pytest.mark.parametrize("shape", [(8, 32, 48), (7, 50, 34), (11, 16, 24)])
def test_server_and_evaluation_see_the_same_clip(
    tmp_path: Path, framing: Framing, shape: tuple[int, int, int]
) -> None:
    for label in LABELS[:2]:
        (tmp_path / label).mkdir()
        video = encode(frames(*shape), "matroska", "ffv1", "bgr0")
        (tmp_path / label / "0.mkv").write_bytes(video)
    clips, _, _ = open_source(str(tmp_path), recogniser(framing)).load(0, 2)
    assert torch.equal(clips[0], served(video, framing))


def test_a_video_beyond_the_archives_limits_is_not_evaluated_either(tmp_path: Path) -> None:
    for label in LABELS[:2]:
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.mp4").write_bytes(encode(frames(6)))
    limits = Limits(max_frames=5)
    source = open_source(str(tmp_path), recogniser(FRAMINGS[0]), limits=limits)
    with pytest.raises(EvaluationError, match="6 frames, more than the 5 allowed"):
        source.check(2)
