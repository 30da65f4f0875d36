"""Pictures of what training, calibration and tuning found, each as the bytes of a PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["learning_curve", "purified_samples"]

DPI = 130
INK, BLUE, ORANGE, PALE = "#22262b", "#0b63ce", "#d55e00", "#c9ced6"
_GAIN = 8  # a difference is shown this much stronger


def learning_curve(
    curve: Sequence[dict[str, float]], validation: Sequence[dict[str, float]]
) -> bytes:
    """The loss by step, while training and on the validation clips."""
    figure, axes = axes_of(6.4, 3.6)
    for entries, label, colour, marker in (
        (curve, "training", PALE, None),
        (validation, "validation, of the weights that are kept", BLUE, "o"),
    ):
        steps, losses = [e["step"] for e in entries], [e["loss"] for e in entries]
        axes.plot(steps, losses, color=colour, marker=marker, markersize=3, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss: mean square of what is left of the noise")
    axes.legend(frameon=False, fontsize=8)
    return png(figure)


def purified_samples(clips: Tensor, noisy: Tensor, purified: Tensor) -> bytes:
    """The middle frames of clips [B, T, 3, H, W] in 0..1: as they are, noisy, and purified."""
    middle = clips.shape[1] // 2
    shown = [part[:, middle].permute(0, 2, 3, 1) for part in (clips, noisy, purified)]
    shown.append((0.5 + _GAIN * (shown[2] - shown[0])).clamp(0, 1))
    names = ("as it came", "with noise", "purified", f"difference x{_GAIN}")
    figure = Figure(figsize=(1.3 * len(clips) + 1, 5.4), layout="constrained")
    rows = figure.subplots(len(names), len(clips), squeeze=False)
    for row, name, frames in zip(rows, names, shown, strict=True):
        for place, frame in zip(row, frames, strict=True):
            place.imshow(frame.clamp(0, 1).mul(255).round().to(torch.uint8).numpy())
            place.set_xticks([])
            place.set_yticks([])
        row[0].set_ylabel(name, fontsize=8)
    return png(figure)


def axes_of(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=8, colors=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The bytes of a figure, the same each time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
