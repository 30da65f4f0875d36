"""Calibration of the demo's models on clean clips that nothing was trained or chosen on."""

from __future__ import annotations

from dataclasses import replace

from videopure.format.settings import Limits
from videopure.motions.bundle_files import BundleSettings
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.suspicion import calibrate_threshold
from videopure.training.calibrate import clean_clips, score_clips

__all__ = ["FALSE_ALARM_RATES", "calibrated"]

FALSE_ALARM_RATES = ("0.01", "0.05")


def calibrated(
    settings: BundleSettings, defended: DefendedRecogniser, count: int
) -> BundleSettings:
    """Settings with the thresholds that clean clips of the calibration stream exceed so often.

    Args:
        settings: that `defended` has.
        defended: the bundle's models, as they are served.
        count: of clips.
    """
    clips = clean_clips("demo", defended.recogniser, Limits(), [], count=count)
    scores = score_clips(defended, clips)
    suspicion, change = (
        {rate: calibrate_threshold(found, float(rate)) for rate in FALSE_ALARM_RATES}
        for found in (scores.suspicion, scores.change)
    )
    return replace(settings, suspicion_thresholds=suspicion, change_thresholds=change)
