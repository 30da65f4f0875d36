"""Calibration of the suspicion score on clean clips."""

from __future__ import annotations

import torch
from rich.progress import track

from videopure.motions.clips import Stream
from videopure.motions.dataset import load_split
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.suspicion import calibrate_threshold

__all__ = ["FALSE_ALARM_RATES", "clean_suspicion", "suspicion_thresholds"]

FALSE_ALARM_RATES = ("0.01", "0.05")


def clean_suspicion(
    defended: DefendedRecogniser, stream: Stream, count: int, batch: int = 10
) -> torch.Tensor:
    """Suspicion scores [N] of the stream's first clips, as the served settings give them."""
    device = next(defended.parameters()).device
    scores: list[float] = []
    for start in track(range(0, count, batch), description="clean clips"):
        clips, _ = load_split(stream, start, min(batch, count - start))
        verdicts = defended.answer(clips.to(device)).verdicts
        scores += [v.suspicion for v in verdicts if v.suspicion is not None]
    return torch.tensor(scores)


def suspicion_thresholds(defended: DefendedRecogniser, count: int) -> dict[str, float]:
    """Thresholds that clean clips of the calibration stream exceed at the stated rates."""
    scores = clean_suspicion(defended, Stream("calibration"), count)
    return {rate: calibrate_threshold(scores, float(rate)) for rate in FALSE_ALARM_RATES}
