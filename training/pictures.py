"""Pictures of what training, calibration and tuning found, each as the bytes of a PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videopure.evaluation.report.html import check_tools
from videopure.training.intervals import false_alarm_interval

if TYPE_CHECKING:
    from videopure.training.calibrate import Threshold
    from videopure.training.tune import Found

__all__ = ["alarm_curve", "learning_curve", "purified_samples", "trade_off"]

DPI = 130
INK, BLUE, ORANGE, PALE = "#22262b", "#0b63ce", "#d55e00", "#c9ced6"
_GAIN = 8  # how much a shown difference is amplified


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
    axes.set_ylabel("loss: mean square of the remaining noise")
    axes.legend(frameon=False, fontsize=8)
    return png(figure)


def purified_samples(clips: Tensor, noisy: Tensor, purified: Tensor) -> bytes:
    """The middle frames of clips [B, T, 3, H, W] in 0..1: original, noisy, and purified."""
    middle = clips.shape[1] // 2
    shown = [part[:, middle].permute(0, 2, 3, 1) for part in (clips, noisy, purified)]
    shown.append((0.5 + _GAIN * (shown[2] - shown[0])).clamp(0, 1))
    names = ("original", "with noise", "purified", f"difference x{_GAIN}")
    figure = _figure(1.3 * len(clips) + 1, 5.4)
    rows = figure.subplots(len(names), len(clips), squeeze=False)
    for row, name, frames in zip(rows, names, shown, strict=True):
        for place, frame in zip(row, frames, strict=True):
            place.imshow(frame.clamp(0, 1).mul(255).round().to(torch.uint8).numpy())
            place.set_xticks([])
            place.set_yticks([])
        row[0].set_ylabel(name, fontsize=8)
    return png(figure)


def alarm_curve(scores: Tensor, chosen: Threshold) -> bytes:
    """The share of clean clips that is called adversarial at every threshold."""
    ordered = scores.sort().values
    count = len(ordered)
    above = [count - 1 - k for k in range(count)]
    spans = [false_alarm_interval(k, count) for k in above]
    figure, axes = axes_of(6.4, 3.6)
    at = ordered.tolist()
    axes.step(at, [100 * k / count for k in above], where="post", color=BLUE, label="clean clips")
    low, high = ([100 * span[side] for span in spans] for side in (0, 1))
    axes.fill_between(at, low, high, step="post", color=PALE, label="95 % interval for others")
    axes.axvline(chosen.value, color=ORANGE, label=f"chosen, for {chosen.aim:.1%}")
    axes.set_xlabel("threshold of suspicion")
    axes.set_ylabel("% of clean clips above")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=8)
    return png(figure)


def trade_off(found: Sequence[Found], best: Found) -> bytes:
    """Share of attacked and of clean clips that each setting keeps, against its cost."""
    figure, axes = axes_of(7.2, 4.2)
    for name, colour, marker in (("clean", BLUE, "o"), ("attacked", ORANGE, "s")):
        shares = [100 * getattr(one, name) / one.clips for one in found]
        costs = [one.milliseconds for one in found]
        axes.scatter(costs, shares, color=colour, marker=marker, s=18, label=name)
    for one in found:
        weight = "bold" if one is best else "normal"
        at = (one.milliseconds, 100 * one.attacked / one.clips)
        axes.annotate(
            one.choice.name, at, (3, -9), textcoords="offset points", size=6, weight=weight
        )
    axes.set_xscale("log")
    axes.set_ylim(0, 103)
    axes.set_xlabel("milliseconds a clip")
    axes.set_ylabel("% of clips answered correctly")
    axes.legend(frameon=False, fontsize=8)
    return png(figure)


def axes_of(width: float, height: float) -> tuple[Any, Any]:
    """A figure of a size in inches, and its axes."""
    figure = _figure(width, height)
    axes = figure.add_subplot()
    axes.tick_params(labelsize=8, colors=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _figure(width: float, height: float) -> Any:
    check_tools()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Any) -> bytes:
    """The bytes of a figure, the same each time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
