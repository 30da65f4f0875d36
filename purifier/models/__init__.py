"""Families of video diffusion models, by the class of their denoiser.

A new one is a file with a subclass of `LatentVideoModel`, and a line here.
"""

from typing import Any

from videopure.purifier.models.base import Call, LatentVideoModel, Network, Predict
from videopure.purifier.models.cogvideox import CogVideoX
from videopure.purifier.models.unet3d import UNet3D
from videopure.purifier.models.unet_motion import UNetMotion
from videopure.purifier.models.wan import Wan

__all__ = ["FAMILIES", "Call", "LatentVideoModel", "Network", "Predict", "find_family"]

FAMILIES: dict[str, type[LatentVideoModel]] = {
    "UNet3DConditionModel": UNet3D,
    "UNetMotionModel": UNetMotion,
    "CogVideoXTransformer3DModel": CogVideoX,
    "WanTransformer3DModel": Wan,
}


def find_family(denoiser: Any) -> type[LatentVideoModel]:
    """The family of a denoiser.

    Raises:
        ValueError: naming its class and the supported ones.
    """
    for kind in type(denoiser).__mro__:
        if kind.__name__ in FAMILIES:
            return FAMILIES[kind.__name__]
    raise ValueError(
        f"the diffusion model is a {type(denoiser).__name__}, which is of no known family: use "
        f"one of {', '.join(FAMILIES)}"
    )
