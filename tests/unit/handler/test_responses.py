"""From verdicts to what an answer says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from videopure.handler.responses import Thresholds, combine, verdict_answer
from videopure.handler.video import Clip
from videopure.purifier import Verdict, Vote
from videopure.wire.schemas import Answer, ModelNames, PurificationInfo, VideoInfo

pytestmark = pytest.mark.unit

LABELS = ["wave", "jump", "run"]
NAMES = ModelNames(name="videopure", version="1.0", recogniser="tiny", purifier="small")
INFO = VideoInfo(frames=2, fps=8, duration_s=0.25, width=24, height=16, frame_indices=[0, 1])
OWN = PurificationInfo(method="videopure", inversion_steps=1, speed="exact", calibrated=True)


def verdict(suspicion: float | None = 0.5, **changes: Any) -> Verdict:
    given: dict[str, Any] = {
        "label_id": 1,
        "probabilities": torch.tensor([0.2, 0.5, 0.3]),
        "votes": (Vote(21, 0, 0.5), Vote(1, 1, 0.6), Vote(0, 1, 0.7)),
        "of": 3,
        "agreement": 2 / 3,
        "undefended": torch.tensor([0.7, 0.2, 0.1]),
        "suspicion": suspicion,
    }
    return Verdict(**{**given, **changes})


def answer(*verdicts: Verdict, threshold: float | None = 0.5, top_k: int = 5) -> Answer:
    clip = Clip(torch.zeros(2, 3, 16, 24), INFO, [])
    timing = {"total": 1.0}
    beyond = Thresholds(threshold)
    return verdict_answer("a", NAMES, LABELS, top_k, verdicts, clip, beyond, OWN, timing)


@pytest.mark.parametrize(
    ("suspicion", "threshold", "alarm"),
    [(0.5, 0.5, False), (0.5001, 0.5, True), (0.4999, 0.5, False), (0.9, None, None)],
)
def test_the_alarm_is_for_more_suspicion_than_the_threshold(
    suspicion: float, threshold: float | None, alarm: bool | None
) -> None:
    """As `calibrate_threshold` counts: the threshold itself is a clean clip's score."""
    told = answer(verdict(suspicion), threshold=threshold).suspicion
    assert told is not None
    assert told.adversarial is alarm


def test_the_label_is_the_votes_and_the_rest_comes_by_probability() -> None:
    told = answer(verdict(label_id=2), top_k=2)
    assert [prediction.label for prediction in told.predictions] == ["run", "jump"]
    assert told.undefended is not None
    assert told.undefended.label == "wave"
    assert told.votes is not None
    assert told.votes.agreement == 2 / 3


def test_agreement_of_several_clips_is_with_the_label_of_all() -> None:
    other = verdict(label_id=0, probabilities=torch.tensor([0.4, 0.6, 0.0]), suspicion=0.9)
    both = combine([verdict(), other])
    assert both.label_id == 1
    assert both.agreement == pytest.approx(4 / 6)  # two votes for it in each clip
    assert (both.of, both.suspicion) == (6, 0.9)
    assert combine([verdict(None), verdict(None)]).suspicion is None
