"""Recognisers of human action behind one small interface.

A recogniser takes frames in 0..1 and applies its model's own normalisation inside, so that
purified, attacked and plain clips all enter at the same point. Each family has its own module,
named `<family>_models.py`; docs/recognisers.md says how to add one.
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
