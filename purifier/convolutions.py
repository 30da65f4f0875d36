"""3D convolutions that are as fast for one clip on the CPU as for several."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["OneDNNConv3d", "use_onednn"]


class OneDNNConv3d(nn.Conv3d):
    """A `Conv3d` that calls oneDNN on the CPU for inputs of any size.

    For a batch of one, and for kernels of one pixel, torch uses its own loop instead, which takes
    about twice as long; the results differ only by rounding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """See `nn.Conv3d`."""
        if isinstance(self.padding, str) or self.padding_mode != "zeros" or not _fits(input):
            return super().forward(input)
        return torch.mkldnn_convolution(
            input, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def _fits(input: Tensor) -> bool:
    """Whether oneDNN can take an input that torch may not pass to it by default."""
    available = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    whole = input.ndim == 5 and input.numel() > 0
    return available and whole and input.device.type == "cpu" and input.dtype == torch.float32


def use_onednn(network: nn.Module) -> None:
    """Make every plain `Conv3d` in a network a `OneDNNConv3d`; weights keep their names."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = OneDNNConv3d
