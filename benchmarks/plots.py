"""One plot of each result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.served import PURIFYING

__all__ = ["PLOTS", "save_plot"]


def _schedule(result: list[dict[str, Any]], axes: Any) -> None:
    for place, compared in zip(axes, result, strict=True):
        rows = compared["ways"]
        left = [0.0] * len(rows)
        for stage in PURIFYING:
            widths = [row["stages_ms"].get(stage, 0.0) for row in rows.values()]
            place.barh(list(rows), widths, left=left, label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for number, row in enumerate(rows.values()):
            place.text(left[number], number, f" {row['ms_ratio']:.1f}x", va="center")
        place.invert_yaxis()
        place.margins(x=0.15)
        place.set(title=compared["setup"], xlabel="ms for one clip")
    axes[0].legend()


def _limits(result: list[dict[str, Any]], axes: Any) -> None:
    for place, measured in zip(axes, result, strict=True):
        stages = {k: v for k, v in measured["stages"].items() if v["gflop"] > 0}
        place.barh(list(stages), [100 * row["share_of_matmul"] for row in stages.values()])
        place.invert_yaxis()
        place.set(title=measured["setup"], xlabel="% of the rate of a large matrix product")


def _scaling(result: dict[str, Any], axes: Any) -> None:
    for place, (name, grown) in zip(axes, result["grows"].items(), strict=True):
        place.loglog(grown["sizes"], grown["ms"], marker="o", base=2)
        place.set(title=f"{name}: exponent {grown['exponent']:.2f}", xlabel=name, ylabel="ms")


def _memory(result: list[dict[str, Any]], axes: Any) -> None:
    for place, measured in zip(axes, result, strict=True):
        known = {clips: mb for clips, mb in measured["batches"].items() if mb is not None}
        place.plot(list(known), list(known.values()), marker="o")
        place.set(title=measured["setup"], xlabel="clips together", ylabel="peak MB")
        place.set_ylim(bottom=0)


def _served(result: dict[str, Any], axes: Any) -> None:
    sizes = sorted({cell["batch_size"] for cell in result["cells"]})
    for size in sizes:
        cells = [cell for cell in result["cells"] if cell["batch_size"] == size]
        clients = [cell["clients"] for cell in cells]
        label = f"batches of up to {size}"
        axes[0].plot(clients, [c["per_second"] for c in cells], marker="o", label=label)
        axes[1].plot(clients, [c["p50_ms"] for c in cells], marker="o", label=label)
    axes[0].set(title="throughput", xlabel="clients", ylabel="clips a second")
    axes[1].set(title="half of the requests take at most", xlabel="clients", ylabel="ms")
    axes[0].legend()


def _alternatives(result: dict[str, Any], axes: Any) -> None:
    rows = result["ways"]
    axes[0].barh(list(rows), [row["ms"] for row in rows.values()])
    axes[0].invert_yaxis()
    axes[0].set(xlabel="ms for one clip", title=result["setup"])


def _decoding(result: list[dict[str, Any]], axes: Any) -> None:
    axes[0].barh([row["clip"] for row in result], [row["ratio"] for row in result])
    axes[0].invert_yaxis()
    axes[0].axvline(1, color="black", linewidth=0.8)
    axes[0].set(title="reading a video", xlabel="times PyAV alone")


# Part -> the function that draws its result, and the number of axes of a result.
PLOTS: dict[str, tuple[Callable[[Any, Any], None], Callable[[Any], int]]] = {
    "schedule": (_schedule, len),
    "limits": (_limits, len),
    "scaling": (_scaling, lambda result: len(result["grows"])),
    "memory": (_memory, len),
    "served": (_served, lambda result: 2),
    "shortcuts": (_alternatives, lambda result: 1),
    "alternatives": (_alternatives, lambda result: 1),
    "decoding": (_decoding, lambda result: 1),
}


def save_plot(name: str, result: Any, file: Path) -> None:
    """Draw one result into a PNG."""
    matplotlib.use("Agg")
    draw, count = PLOTS[name]
    number = count(result)
    figure, grid = pyplot.subplots(
        1, number, figsize=(max(6.0, 4.5 * number), 3.6), squeeze=False, layout="constrained"
    )
    axes: list[Axes] = list(grid[0])
    draw(result, axes)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
