"""Family `videopure`: networks of this package, which take frames in 0..1 directly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.torch import load_file
from torch import Tensor, nn

from videopure.purifier.networks import RECOGNISER_NETWORKS
from videopure.purifier.recognisers.base import Recogniser
from videopure.purifier.recognisers.config import RecogniserConfig

if TYPE_CHECKING:
    from videopure.purifier.recognisers.loading import RecogniserFolder

__all__ = ["NetworkRecogniser", "load"]


class NetworkRecogniser(Recogniser):
    """A network of this package."""

    def __init__(
        self,
        network: nn.Module,
        name: str,
        num_frames: int,
        frame_size: tuple[int, int],
        labels: list[str],
    ) -> None:
        super().__init__(name, num_frames, frame_size, labels)
        self.network = network

    def logits(self, frames: Tensor) -> Tensor:
        """See `Recogniser.logits`."""
        self.check_frames(frames)
        dtype = next(self.network.parameters()).dtype
        output: Tensor = self.network(frames.to(dtype))
        return self.check_logits(output, len(frames))


def load(folder: RecogniserFolder) -> NetworkRecogniser:
    """Load `config.json` and `model.safetensors`."""
    where = folder.path / "config.json"
    config = RecogniserConfig.from_dict(folder.config, str(where))
    if config.kind not in RECOGNISER_NETWORKS:
        raise ValueError(
            f"kind in {where} must be one of {', '.join(sorted(RECOGNISER_NETWORKS))}, "
            f"got {config.kind!r}"
        )
    network_class = RECOGNISER_NETWORKS[config.kind]
    network = network_class(num_classes=len(config.labels), **config.architecture)
    network.load_state_dict(load_file(folder.path / "model.safetensors"))
    return NetworkRecogniser(
        network.to(folder.dtype), config.name, config.num_frames, config.frame_size, config.labels
    )
