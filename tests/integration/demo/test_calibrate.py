"""Thresholds of the demo's models, from the clean clips that are kept for that."""

import pytest

from videopure.demo.calibrate import calibrated
from videopure.demo.harden import ONE_LOOK
from videopure.format.settings import Limits
from videopure.motions import HARDENED
from videopure.motions.bundle_files import BundleSettings, load_defended
from videopure.motions.clips import Stream
from videopure.motions.dataset import load_split
from videopure.training.calibrate import Threshold, clean_clips, score_clips

pytestmark = pytest.mark.integration


def test_both_thresholds_are_what_clean_clips_do_not_exceed() -> None:
    settings = BundleSettings(ONE_LOOK, {})
    defended = load_defended(HARDENED, settings.purify_settings())
    found = calibrated(settings, defended, 3)
    clips, _ = load_split(Stream("calibration"), 0, 3)
    verdicts = [defended.answer(clip[None]).verdicts[0] for clip in clips]
    served = found.purify_settings()
    assert served.change_threshold == pytest.approx(max(v.change or 0 for v in verdicts), rel=1e-4)
    assert served.suspicion_threshold == pytest.approx(
        max(v.suspicion or 0 for v in verdicts), abs=1e-4
    )
    assert served.method == "one_look"


@pytest.mark.slow
def test_fresh_clips_raise_as_many_alarms_as_fifty_clips_say() -> None:
    """Both scores of the served demo: 50 clips to calibrate on, 100 others."""
    defended = load_defended(HARDENED, BundleSettings(ONE_LOOK, {}).purify_settings())
    known, fresh = (
        score_clips(defended, clean_clips("demo", defended.recogniser, Limits(), [], **asked))
        for asked in ({"count": 50}, {"count": 100, "split": "test"})
    )
    for scores, others in ((known.suspicion, fresh.suspicion), (known.change, fresh.change)):
        for aim in (0.02, 0.1):
            threshold = Threshold.of(scores, aim)
            share = float((others > threshold.value).double().mean())
            # A hundred clips tell a share to three standard errors.
            low, high = threshold.low, threshold.high
            assert low - 3 * (low * (1 - low) / 100) ** 0.5 <= share
            assert share <= high + 3 * (high * (1 - high) / 100) ** 0.5
