"""All defences around the recorded pipeline and a tiny recogniser."""

from __future__ import annotations

from tests.parity import FIXTURE, load_pipeline
from tests.support.models import tiny_recogniser
from videopure.evaluation.defences.registry import make_defences
from videopure.purifier import DefendedRecogniser, PurifySettings

__all__ = ["DEFENCES", "DEFENDED"]

DEFENDED = DefendedRecogniser(
    load_pipeline(FIXTURE), tiny_recogniser(3, (16, 24)), PurifySettings(inversion_steps=0)
)
DEFENCES = make_defences(DEFENDED)
