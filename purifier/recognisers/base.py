"""The interface of a recogniser to the purifier, the server and the evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from videopure.purifier.clip import Framing
from videopure.purifier.inputs import at_least_float32

__all__ = ["Normalise", "Recogniser"]


class Recogniser(nn.Module, ABC):
    """Names the action in a clip.

    Args:
        name: the model's name in the answers.
        num_frames: frames T it takes.
        frame_size: (height, width) of the frames it takes.
        labels: the class names, in the order of the logits.
        framing: how frames of any size are prepared; by default they are scaled to cover
            `frame_size` and the centre is cropped.
    """

    def __init__(
        self,
        name: str,
        num_frames: int,
        frame_size: tuple[int, int],
        labels: list[str],
        framing: Framing | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.num_frames = num_frames
        self.frame_size = frame_size
        self.labels = labels
        self.framing = framing or Framing(frame_size)
        if self.framing.size != frame_size:
            raise ValueError(
                f"recogniser {name!r} takes frames of {frame_size}, but its preprocessing cuts "
                f"out {self.framing.size}"
            )

    @abstractmethod
    def logits(self, frames: Tensor) -> Tensor:
        """Logits [B, classes], float32, of frames [B, T, 3, H, W] in 0..1; differentiable."""

    def forward(self, frames: Tensor) -> Tensor:
        """The same as `logits`."""
        return self.logits(frames)

    def check_frames(self, frames: Tensor) -> None:
        """Raise ValueError if the model does not take frames of this shape."""
        expected = (self.num_frames, 3, *self.frame_size)
        if frames.ndim != 5 or tuple(frames.shape[1:]) != expected:
            raise ValueError(
                f"frames must have shape [B, {', '.join(map(str, expected))}] for recogniser "
                f"{self.name!r}, got {list(frames.shape)}"
            )

    def check_logits(self, logits: Tensor, clips: int) -> Tensor:
        """The logits, at least float32, after a check that they have a row for each of the clips.

        Raises:
            ValueError: if they have another shape.
        """
        expected = [clips, len(self.labels)]
        if list(logits.shape) != expected:
            raise ValueError(
                f"recogniser {self.name!r} must answer logits of shape {expected} (clips, labels), "
                f"got {list(logits.shape)}"
            )
        return at_least_float32(logits)


class Normalise(nn.Module):
    """Normalises frames in 0..1 for a model: `(frames * scale - shift - mean) / std`, in float32.

    Args:
        mean, std: one number for each of red, green and blue.
        scale, shift: applied before; 1 and 0 if the model was trained on frames in 0..1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        scale: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        super().__init__()
        for argument, values in (("mean", mean), ("std", std)):
            if len(values) != 3:
                raise ValueError(f"{argument} must be 3 numbers, got {list(values)}")
        if min(std) <= 0:
            raise ValueError(f"std must be above 0, got {list(std)}")
        self.scale = scale
        self.shift = shift
        # Not persistent: these come from the model's configuration, not from its weights.
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames [..., 3, H, W], float32."""
        return (at_least_float32(frames) * self.scale - self.shift - self.mean) / self.std
