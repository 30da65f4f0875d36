"""Family `torchvision`: its video classifiers by name. torchvision is an extra, imported lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.torch import load_file
from torch import Tensor, nn

from videopure.purifier.recognisers.base import Normalise, Recogniser
from videopure.purifier.recognisers.config import RecogniserConfig

if TYPE_CHECKING:
    from videopure.purifier.recognisers.loading import RecogniserFolder

__all__ = ["TORCHVISION_MODELS", "TorchvisionRecogniser", "load"]

TORCHVISION_MODELS = (
    "mc3_18",
    "mvit_v1_b",
    "mvit_v2_s",
    "r2plus1d_18",
    "r3d_18",
    "s3d",
    "swin3d_b",
    "swin3d_s",
    "swin3d_t",
)


class TorchvisionRecogniser(Recogniser):
    """A torchvision video classifier, which takes [B, 3, T, H, W]."""

    def __init__(self, network: nn.Module, config: RecogniserConfig) -> None:
        super().__init__(
            config.name, config.num_frames, config.frame_size, config.labels, config.framing
        )
        self.network = network
        self.normalise = Normalise(config.mean, config.std)

    def logits(self, frames: Tensor) -> Tensor:
        """See `Recogniser.logits`."""
        self.check_frames(frames)
        dtype = next(self.network.parameters()).dtype
        pixels = self.normalise(frames).transpose(1, 2)  # [B, 3, T, H, W]
        output: Tensor = self.network(pixels.to(dtype))
        return self.check_logits(output, len(frames))


def load(folder: RecogniserFolder) -> TorchvisionRecogniser:
    """Load `config.json` and `model.safetensors`."""
    where = folder.path / "config.json"
    config = RecogniserConfig.from_dict(folder.config, str(where))
    if config.model not in TORCHVISION_MODELS:
        raise ValueError(
            f"kind in {where} must be torchvision. and one of {', '.join(TORCHVISION_MODELS)}, "
            f"got {config.kind!r}"
        )
    from torchvision.models import get_model  # heavy, and an extra

    network = get_model(
        config.model, weights=None, num_classes=len(config.labels), **config.architecture
    )
    network.load_state_dict(load_file(folder.path / "model.safetensors"))
    return TorchvisionRecogniser(network.to(folder.dtype), config)
