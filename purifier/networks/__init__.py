"""The small networks of this package, and their names in recogniser folders."""

from torch import nn

from videopure.purifier.networks.motion_recogniser import MotionResNet3d, MotionTransformer
from videopure.purifier.networks.patch_codec import PatchCodec
from videopure.purifier.networks.prompt_embedding import PromptEmbedding

__all__ = [
    "RECOGNISER_NETWORKS",
    "MotionResNet3d",
    "MotionTransformer",
    "PatchCodec",
    "PromptEmbedding",
]

# `kind` in a recogniser folder's config.json -> class.
RECOGNISER_NETWORKS: dict[str, type[nn.Module]] = {
    "videopure.motion_resnet3d": MotionResNet3d,
    "videopure.motion_transformer": MotionTransformer,
}
