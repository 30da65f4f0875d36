"""Family UNetMotion: AnimateDiff, an image model whose UNet was given motion modules."""

from __future__ import annotations

from torch import Tensor

from videopure.purifier.models.unet3d import UNet3D

__all__ = ["UNetMotion"]


class UNetMotion(UNet3D):
    """`UNetMotionModel` behind an image codec."""

    @property
    def max_frames(self) -> int | None:
        """The longest sequence that the motion modules take."""
        return int(self.denoiser.config["motion_max_seq_length"])

    def prompts(self, sample: Tensor) -> int:
        """One per frame of [B, C, T, h, w]."""
        return sample.shape[0] * sample.shape[2]
