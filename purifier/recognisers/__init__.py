"""Recognisers of human action behind one small interface.

A recogniser takes frames in 0..1 and does its model's own normalisation inside, so that purified
clips, attacks and plain clips all enter at the same place. Families live in modules of their own,
named `<family>_models.py`; see docs/recognisers.md for how to add one.
"""

from videopure.purifier.recognisers.base import Normalise, Recogniser
from videopure.purifier.recognisers.config import RecogniserConfig
from videopure.purifier.recognisers.loading import RecogniserFolder, families, load_recogniser
from videopure.purifier.recognisers.program_models import ProgramRecogniser
from videopure.purifier.recognisers.torchvision_models import TorchvisionRecogniser
from videopure.purifier.recognisers.transformers_models import TransformersRecogniser
from videopure.purifier.recognisers.videopure_models import NetworkRecogniser

__all__ = [
    "NetworkRecogniser",
    "Normalise",
    "ProgramRecogniser",
    "Recogniser",
    "RecogniserConfig",
    "RecogniserFolder",
    "TorchvisionRecogniser",
    "TransformersRecogniser",
    "families",
    "load_recogniser",
]
