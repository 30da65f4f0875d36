"""Purification of video clips with a video diffusion model (VideoPure, arXiv 2501.14999).

May import nothing of ours.
"""

from videopure.purifier.clip import Framing, prepare_clip, sample_frame_indices
from videopure.purifier.defended import DefendedOutput, DefendedRecogniser, Verdict, Vote
from videopure.purifier.flow import DISFlow, FlowEstimator, RAFTFlow, load_flow
from videopure.purifier.guidance import Guidance
from videopure.purifier.methods import METHODS, Method
from videopure.purifier.one_look import OneLook
from videopure.purifier.pipeline import VideoPureOutput, VideoPurePipeline
from videopure.purifier.randomisation import Randomisation
from videopure.purifier.recognisers import (
    NetworkRecogniser,
    ProgramRecogniser,
    Recogniser,
    TorchvisionRecogniser,
    TransformersRecogniser,
    load_recogniser,
)
from videopure.purifier.settings import PurifySettings, Speed, VotesMode
from videopure.purifier.shortcuts import FAST, Shortcuts
from videopure.purifier.suspicion import calibrate_threshold, suspicion_score

__version__ = "1.0.0"

__all__ = [
    "FAST",
    "METHODS",
    "DISFlow",
    "DefendedOutput",
    "DefendedRecogniser",
    "FlowEstimator",
    "Framing",
    "Guidance",
    "Method",
    "NetworkRecogniser",
    "OneLook",
    "ProgramRecogniser",
    "PurifySettings",
    "RAFTFlow",
    "Randomisation",
    "Recogniser",
    "Shortcuts",
    "Speed",
    "TorchvisionRecogniser",
    "TransformersRecogniser",
    "Verdict",
    "VideoPureOutput",
    "VideoPurePipeline",
    "Vote",
    "VotesMode",
    "calibrate_threshold",
    "load_flow",
    "load_recogniser",
    "prepare_clip",
    "sample_frame_indices",
    "suspicion_score",
]
