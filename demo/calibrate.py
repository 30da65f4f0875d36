"""Calibrates the demo's models on clean clips that were not used for training or choices."""

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
    """Settings with thresholds for the demo's false-alarm rates on the calibration stream.

    Args:
        settings: those of `defended`.
        defended: the bundle's models, as they are served.
        count: number of clips.
    """
    clips = clean_clips("demo", defended.recogniser, Limits(), [], count=count)
    scores = score_clips(defended, clips)
    suspicion, change = (
        {rate: calibrate_threshold(found, float(rate)) for rate in FALSE_ALARM_RATES}
        for found in (scores.suspicion, scores.change)
    )
    return replace(settings, suspicion_thresholds=suspicion, change_thresholds=change)
