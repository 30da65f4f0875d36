"""Clips that are easily told apart, but easily confused by who follows the gradient."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

__all__ = ["BrightClips"]


class BrightClips:
    """Class 0 is dark and class 1 bright, by far more than attacks may change.

    Args:
        num_frames, frame_size: of the clips.
        labelled: whether classes come with the clips.
    """

    def __init__(
        self, num_frames: int, frame_size: tuple[int, int], *, labelled: bool = True
    ) -> None:
        self._shape = (num_frames, 3, *frame_size)
        self._labelled = labelled

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """See `LabelledClips.batch`."""
        labels = torch.randint(2, (size,), generator=generator)
        noise = 0.2 * torch.rand((size, *self._shape), generator=generator)
        clips = 0.25 + 0.3 * labels.view(-1, 1, 1, 1, 1) + noise
        return clips, labels if self._labelled else None

    def validation(self, count: int) -> tuple[Tensor, Tensor | None]:
        """See `LabelledClips.validation`."""
        return self.batch(count, Generator().manual_seed(99))
