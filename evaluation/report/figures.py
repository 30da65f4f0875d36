"""The report's pictures, each as the bytes of a PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from videopure.evaluation.attacks.threat_models import CLEAN
from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.defences.purifiers import VIDEOPURE
from videopure.evaluation.metrics import auc, roc
from videopure.evaluation.report.examples import Example
from videopure.evaluation.store import Record

__all__ = ["accuracy_curves", "example_frames", "overview", "roc_curves", "votes_by_timestep"]

Summary = dict[str, Any]

DPI = 130
INK, PALE = "#22262b", "#c9ced6"
FIXED = {NONE: "#8a9099", VIDEOPURE: "#0b63ce"}
# Most colour-blind readers can tell these apart (Okabe and Ito, 2008).
OTHERS = ("#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7a5c00", "#000000")
MOST_LINES = 8
ROWS = ("original", "attacked", "difference", "purified")


def overview(summary: Summary) -> bytes | None:
    """Clean accuracy of every defence, and its lowest under each kind of attack and budget."""
    kinds = [
        ("clean", "clean", 0, "o", INK),
        ("knows the recogniser, {}/255", "gray-box", 4, "s", "#56b4e9"),
        ("asks the server, {}/255", "queries", 4, "D", "#009e73"),
        ("knows everything, {}/255", "adaptive", 4, "X", "#d55e00"),
        ("knows the recogniser, {}/255", "gray-box", 8, "s", "#0b63ce"),
        ("knows everything, {}/255", "adaptive", 8, "X", "#8c1d00"),
    ]
    names = list(summary["accuracy"])[::-1]
    if not names:
        return None
    figure, axes = _axes(width=8.4, height=1.4 + 0.34 * len(names))
    for offset, (label, knowledge, epsilon, marker, colour) in enumerate(kinds):
        points = [(k, _least(summary, name, knowledge, epsilon)) for k, name in enumerate(names)]
        shares = [(k, share) for k, share in points if share is not None]
        if not shares:
            continue
        at = [k + (2.5 - offset) * 0.12 for k, _ in shares]
        values = [100 * share["share"] for _, share in shares]
        spread = [
            [100 * (s["share"] - s["low"]) for _, s in shares],
            [100 * (s["high"] - s["share"]) for _, s in shares],
        ]
        axes.errorbar(
            *(values, at),
            xerr=[[max(0.0, v) for v in side] for side in spread],
            fmt=marker,
            markersize=5,
            color=colour,
            elinewidth=0.8,
            label=label.format(epsilon),
        )
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlim(-3, 103)
    axes.set_xlabel("% of clips recognised, with 95 % intervals")
    axes.grid(axis="x", color=PALE, linewidth=0.5)
    if axes.get_legend_handles_labels()[0]:  # none if only other budgets were tried
        figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return _png(figure)


def accuracy_curves(summary: Summary) -> bytes | None:
    """Accuracy against the budget, one panel per family of attacks with several budgets."""
    families = [f for f in _families(summary) if len(_curve_budgets(summary, f)) > 1]
    if not families:
        return None
    columns = min(3, len(families))
    rows = -(-len(families) // columns)
    figure = _figure(4.0 * columns, 3.1 * rows + 0.7)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    looks = {name: (colour, "-") for name, colour in FIXED.items()}
    # Colours repeat dashed: there are more defences than distinguishable colours.
    others = [(colour, dashes) for dashes in ("-", "--", ":") for colour in OTHERS]
    seen: dict[str, Any] = {}
    for axes, family in zip(panels, families, strict=False):
        _dress(axes)
        for defence, points in _curves(summary, family).items():
            unused = others[(len(looks) - len(FIXED)) % len(others)]
            colour, dashes = looks.setdefault(defence, unused)
            budgets = [budget for budget, _ in points]
            (seen[defence],) = axes.plot(
                budgets,
                [100 * s["share"] for _, s in points],
                color=colour,
                linestyle=dashes,
                linewidth=2.2 if defence == VIDEOPURE else 1.3,
                marker="o",
                markersize=3.5,
            )
            low, high = ([100 * s[edge] for _, s in points] for edge in ("low", "high"))
            axes.fill_between(budgets, low, high, color=colour, alpha=0.10, linewidth=0)
        axes.set_title(_plain(family), fontsize=10)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("eps in 1/255")
    for axes in panels[len(families) :]:
        axes.set_axis_off()
    for axes in panels[::columns]:
        axes.set_ylabel("% of clips recognised")
    labels = [_plain(defence) for defence in seen]
    figure.legend(
        seen.values(), labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8
    )
    return _png(figure)


def roc_curves(records: Sequence[Record], served: str = VIDEOPURE) -> bytes | None:
    """True against false alarms of the served suspicion, for the attacks it detects worst."""
    scores: dict[str, list[float]] = {}
    for record in records:
        if record.defence == served and record.suspicion is not None:
            scores.setdefault(record.threat, []).append(record.suspicion)
    clean = torch.tensor(scores.pop(CLEAN.name, []))
    if not len(clean) or not scores:
        return None
    found = {threat: torch.tensor(values) for threat, values in scores.items()}
    worst = sorted(found, key=lambda threat: auc(clean, found[threat]))[:MOST_LINES]
    figure, axes = _axes(width=7.4, height=4.2)
    axes.plot([0, 100], [0, 100], color=PALE, linewidth=0.8, linestyle="--")
    for threat, colour in zip(worst, (*OTHERS, "#0b63ce"), strict=False):
        false, true = roc(clean, found[threat])
        label = f"{threat}, AUC {auc(clean, found[threat]):.3f}, n={len(found[threat])}"
        axes.step(
            [100 * rate for rate in false],
            [100 * rate for rate in true],
            where="post",
            color=colour,
            label=_plain(label),
        )
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_xlabel(f"% of {len(clean)} clean clips called adversarial")
    axes.set_ylabel("% of attacked clips called adversarial")
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return _png(figure)


def votes_by_timestep(summary: Summary) -> bytes | None:
    """Right votes of what is served, by attack and timestep."""
    votes = summary["votes"]
    steps = sorted({int(step) for row in votes.values() for step in row}, reverse=True)
    if not steps:
        return None
    figure, axes = _axes(width=3.2 + 1.1 * len(steps), height=1.1 + 0.3 * len(votes))
    shares = [
        [row[str(s)]["right"] / row[str(s)]["counted"] if str(s) in row else float("nan")
         for s in steps] for row in votes.values()
    ]  # fmt: skip
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(votes.values()):
        for x, step in enumerate(steps):
            if str(step) in row:
                share, count = shares[y][x], row[str(step)]["counted"]
                axes.text(
                    *(x, y, f"{share:.0%}  of {count}"),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if share > 0.6 else INK,
                )
    axes.set_xticks(range(len(steps)), [f"t = {s}" if s else "final" for s in steps])
    axes.set_yticks(range(len(votes)), [_plain(threat) for threat in votes])
    return _png(figure)


def example_frames(example: Example) -> bytes:
    """Rows of frames: clean, attacked, their difference amplified, and purified."""
    clean, attacked, purified = example.frames  # each [T, 3, H, W]
    change = attacked - clean
    factor = amplification(example)
    rows = (clean, attacked, (0.5 + factor * change).clamp(0, 1), purified)
    count, _, height, width = clean.shape
    # Room for the names of the rows on the left.
    figure = _figure(1.3 * count * width / height + 1.0, 1.3 * len(rows))
    panels = figure.subplots(len(rows), 1, squeeze=False).flatten()
    names = (*ROWS[:2], f"{ROWS[2]} ×{factor:.0f}", ROWS[3])
    for axes, frames, name in zip(panels, rows, names, strict=True):
        axes.imshow(_strip(frames), interpolation="nearest")
        axes.set_ylabel(name, fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    return _png(figure, dpi=100)


def amplification(example: Example) -> float:
    """The factor by which the largest difference spans half the range of a pixel."""
    largest = float((example.frames[1] - example.frames[0]).abs().max())
    return 0.5 / largest if largest else 1.0


def _strip(frames: Tensor) -> Any:
    """Frames [T, 3, H, W] in 0..1 side by side: [H, T*(W+2)-2, 3] uint8."""
    gap = torch.ones(*frames.shape[:3], 2)
    spaced = torch.cat((frames, gap), dim=3)  # [T, 3, H, W+2]
    strip = spaced.permute(2, 0, 3, 1).flatten(1, 2)[:, :-2]  # [H, T*(W+2)-2, 3]
    return (strip * 255).round().byte().numpy()


def _least(summary: Summary, defence: str, knowledge: str, epsilon: int) -> dict[str, float] | None:
    kinds = ("gray-box", "black-box") if knowledge == "gray-box" else (knowledge,)
    shares = [
        share
        for threat, share in summary["accuracy"][defence].items()
        if summary["threats"][threat]["knowledge"] in kinds
        and summary["threats"][threat]["epsilon"] == epsilon
    ]
    return min(shares, key=lambda share: share["share"], default=None)


def _families(summary: Summary) -> list[str]:
    return [
        family
        for family in dict.fromkeys(known["family"] for known in summary["threats"].values())
        if family not in (CLEAN.name, "unbounded")
    ]


def _curve_budgets(summary: Summary, family: str) -> list[int]:
    return sorted(t["epsilon"] for t in summary["threats"].values() if t["family"] == family)


def _curves(summary: Summary, family: str) -> dict[str, list[tuple[int, dict[str, float]]]]:
    """By defence, (budget, share) from clean clips on, for the best with the most budgets."""
    curves: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for defence, row in summary["accuracy"].items():
        points = [
            (summary["threats"][threat]["epsilon"], share)
            for threat, share in row.items()
            if summary["threats"][threat]["family"] in (family, CLEAN.name)
        ]
        if any(epsilon for epsilon, _ in points):
            curves[defence] = sorted(points, key=lambda point: point[0])
    most = max(map(len, curves.values()), default=0)
    full = {d: points for d, points in curves.items() if len(points) == most}
    best = sorted(full, key=lambda d: (d not in FIXED, -full[d][-1][1]["share"]))[:MOST_LINES]
    return {defence: full[defence] for defence in full if defence in best}


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure = _figure(width, height)
    axes = figure.add_subplot()
    _dress(axes)
    return figure, axes


def _dress(axes: Any) -> None:
    axes.tick_params(labelsize=8, colors=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _plain(text: str) -> str:
    """Text with dollars escaped, which matplotlib reads as mathematics."""
    return text.replace("$", r"\$")


def _png(figure: Figure, dpi: int = DPI) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
