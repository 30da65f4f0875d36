"""Purification of video clips with a video diffusion model (VideoPure, arXiv 2501.14999).

May import nothing of ours.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# The file that defines each name. Most of them import diffusers and the models' code, which costs
# seconds and memory; the decoding process, and code that only needs a setting, avoid that.
_HOMES = {
    "clip": ("Framing", "prepare_clip", "sample_frame_indices"),
    "defended": ("DefendedOutput", "DefendedRecogniser", "Verdict", "Vote"),
    "flow": ("DISFlow", "FlowEstimator", "RAFTFlow", "load_flow"),
    "guidance": ("Guidance",),
    "methods": ("METHODS", "Method"),
    "one_look": ("OneLook",),
    "pipeline": ("VideoPureOutput", "VideoPurePipeline"),
    "randomisation": ("Randomisation",),
    "recognisers": (
        "NetworkRecogniser",
        "ProgramRecogniser",
        "Recogniser",
        "TorchvisionRecogniser",
        "TransformersRecogniser",
        "load_recogniser",
    ),
    "settings": ("PurifySettings", "Speed", "VotesMode"),
    "shortcuts": ("FAST", "Shortcuts"),
    "suspicion": ("calibrate_threshold", "suspicion_score"),
}


def __getattr__(name: str) -> Any:
    """Import on first use."""
    for file, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
