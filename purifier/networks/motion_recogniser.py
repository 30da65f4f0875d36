"""The small recognisers of motion that the demo trains and serves.

Both take frames in 0..1, and add the differences between neighbouring frames to their input; from
frames alone, networks this small hardly learn motion at all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MotionResNet3d", "MotionTransformer"]

# Differences between neighbouring frames are small; this scales them to the range of the frames.
_DIFFERENCE_GAIN = 4.0


def _with_differences(frames: Tensor) -> Tensor:
    """Frames [B, T, 3, H, W] in 0..1 -> frames in -1..1 and their differences [B, T, 6, H, W].

    The difference is to the next frame, and zero for the last one.
    """
    x = frames * 2 - 1
    difference = torch.zeros_like(x)
    difference[:, :-1] = _DIFFERENCE_GAIN * (x[:, 1:] - x[:, :-1])
    return torch.cat((x, difference), dim=2)


class _ResidualBlock3d(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm3d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv3d(in_channels, channels, 1, stride=stride, bias=False),
                nn.BatchNorm3d(channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x))


class MotionResNet3d(nn.Module):
    """A residual network with 3D convolutions on frames and frame differences.

    Args:
        num_classes: number of logits.
        width: channels of the stem and the first stage; the later two have 2 and 4 times as many.
    """

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(6, width, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        self.stages = nn.Sequential(
            _ResidualBlock3d(width, width, 1),
            _ResidualBlock3d(width, 2 * width, 2),
            _ResidualBlock3d(2 * width, 4 * width, 2),
        )
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits [B, classes] of frames [B, T, 3, H, W] in 0..1."""
        x = _with_differences(frames).transpose(1, 2)  # [B, 6, T, H, W]
        features = self.stages(self.stem(x))  # [B, 4 * width, T/8, H/8, W/8]
        logits: Tensor = self.head(features.mean(dim=(2, 3, 4)))
        return logits


class MotionTransformer(nn.Module):
    """A 2D convolutional encoder of each frame and a transformer over time.

    Its architecture is unlike that of `MotionResNet3d`, so attacks made on it are transfer attacks.

    Args:
        num_classes: number of logits.
        num_frames: frames T of a clip.
        frame_size: height and width of the frames, a multiple of 16.
        width: channels after the first convolution.
        dim: features of a frame's token.
        layers: transformer layers.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        frame_size: int = 64,
        width: int = 24,
        dim: int = 128,
        layers: int = 2,
    ) -> None:
        super().__init__()
        if frame_size % 16:
            raise ValueError(f"frame_size must be a multiple of 16, got {frame_size}")
        blocks: list[nn.Module] = []
        channels = 6
        for factor in (1, 2, 3, 4):  # each halves height and width
            blocks += [
                nn.Conv2d(channels, factor * width, 3, stride=2, padding=1),
                nn.GroupNorm(4, factor * width),
                nn.GELU(),
            ]
            channels = factor * width
        self.encoder = nn.Sequential(*blocks)
        self.to_token = nn.Linear(channels * (frame_size // 16) ** 2, dim)
        self.position = nn.Parameter(0.02 * torch.randn(1, num_frames, dim))
        layer = nn.TransformerEncoderLayer(
            dim, nhead=4, dim_feedforward=2 * dim, dropout=0.0, batch_first=True, norm_first=True
        )
        self.temporal = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits [B, classes] of frames [B, T, 3, H, W] in 0..1."""
        x = _with_differences(frames)
        features = self.encoder(x.flatten(0, 1))  # [B*T, C, H/16, W/16]
        tokens = self.to_token(features.flatten(1)).unflatten(0, x.shape[:2])  # [B, T, dim]
        hidden = self.temporal(tokens + self.position)
        logits: Tensor = self.head(self.norm(hidden.mean(dim=1)))
        return logits
