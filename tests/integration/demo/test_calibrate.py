"""Thresholds of the demo's models, from the clean clips that are kept for that."""

import pytest

from videopure.demo.calibrate import calibrated
from videopure.demo.harden import ONE_LOOK
from videopure.motions import HARDENED
from videopure.motions.bundle_files import BundleSettings, load_defended
from videopure.motions.clips import Stream
from videopure.motions.dataset import load_split

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
