"""The demo's table and picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.box import SIMPLE
from rich.table import Table
from torch import Tensor

from videopure.wire.schemas import Answer

__all__ = ["HEADINGS", "Shown", "picture", "table"]

# The heading of each line of defence.
HEADINGS = {"alone": "recogniser alone", "published": "VideoPure, paper", "served": "served here"}


@dataclass
class Shown:
    """One clip after one attacker, and the answer of each line of defence.

    Args:
        number: number of the clip.
        kind: `clean`, `gray-box` or `white-box`.
        truth: the clip's class.
        clips: the clip for each line, [T, 3, H, W] in 0..1: each is attacked separately.
        labels: the answer of each.
        served: the server's answer, and the milliseconds that it took.
    """

    number: int
    kind: str
    truth: str
    clips: dict[str, Tensor] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    served: tuple[Answer, float] | None = None

    @property
    def answer(self) -> Answer:
        """The server's."""
        if self.served is None:
            raise RuntimeError(f"the server was not asked about clip {self.number}, {self.kind}")
        return self.served[0]

    def label(self, line: str) -> str:
        """The answer of a line of defence; the served one over HTTP."""
        return self.answer.predictions[0].label if line == "served" else self.labels[line]


def table(shown: list[Shown]) -> Table:
    """The answers side by side; fits 80 columns."""
    result = Table(
        title="What each clip shows, and what was answered",
        box=SIMPLE,
        padding=0,
        pad_edge=False,
    )
    for heading in ("attacker", "truth", *HEADINGS.values(), "suspicion", "ms"):
        # A heading may take two lines, an answer never.
        lines = heading.replace(" ", "\n")
        result.add_column(lines, justify="right" if heading == "ms" else "left", no_wrap=True)
    for place, one in enumerate(shown):
        last = place + 1 == len(shown) or shown[place + 1].number != one.number
        assert one.served is not None  # the server was asked about all
        result.add_row(
            one.kind,
            one.truth,
            *(_mark(one.label(line), one.truth) for line in HEADINGS),
            _suspicion(one.answer),
            f"{one.served[1]:.0f}",
            end_section=last,
        )
    return result


def _mark(label: str, truth: str) -> str:
    colour, mark = ("green", "✓") if label == truth else ("red", "✗")
    return f"[{colour}]{mark} {label}[/{colour}]"


def _suspicion(answer: Answer) -> str:
    if answer.suspicion is None or answer.suspicion.score is None:
        return "–"
    return f"{answer.suspicion.score:.2f}{' !' if answer.suspicion.adversarial else ''}"


def picture(rows: list[Shown], purified: Tensor, path: Path) -> Path:
    """One clip as each attacker changed it against what is served, and the answers of all lines.

    Args:
        rows: the clip clean, and under each attacker.
        purified: the last one after purification, [T, 3, H, W] in 0..1.
        path: path of the PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    truth = rows[0].truth
    strips = [(_caption(one), one.clips["served"], one.label("served") == truth) for one in rows]
    held = rows[-1].label("served") == truth
    strips.append((f"{rows[-1].kind}, purified by what is served", purified, held))
    picks = torch.linspace(0, len(purified) - 1, 8).round().long().tolist()
    figure = pyplot.figure(figsize=(9, 6.8), layout="constrained")
    figure.suptitle(f"The clip shows: {truth}")
    for part, (caption, clip, right) in zip(figure.subfigures(len(strips)), strips, strict=True):
        part.suptitle(caption, fontsize=9, color="tab:green" if right else "tab:red")
        for axis, frame in zip(part.subplots(1, len(picks)), picks, strict=True):
            axis.imshow(clip[frame].permute(1, 2, 0).numpy())  # [H, W, 3]
            axis.set_axis_off()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _caption(one: Shown) -> str:
    answers = "; ".join(f"{heading}: {one.label(line)}" for line, heading in HEADINGS.items())
    return f"{one.kind}. {answers}"
