"""What an evaluation has found: hits clip by clip, their intervals, and the tables of both."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor

from videopure.evaluation.measures import auc, wilson_interval

__all__ = ["VIDEOPURE", "Evaluation", "print_summary"]

VIDEOPURE = "VideoPure"


@dataclass
class Evaluation:
    """Results so far.

    Args:
        asked: what was evaluated and how; results of other questions are not continued.
        done: clips that have been through everything.
        hits: hits[defence][attack] says clip by clip whether the answer was right.
        suspicion: VideoPure's suspicion of every clip, by attack.
        seconds: median seconds for one clip alone.
    """

    asked: dict[str, Any]
    done: int = 0
    hits: dict[str, dict[str, list[bool]]] = field(default_factory=dict)
    suspicion: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def resume(cls, path: Path, asked: dict[str, Any]) -> Evaluation:
        """Go on with the results in a file if they answer the same question."""
        if path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))["results"]
            if stored["asked"] == asked:
                return cls(**stored)
        return cls(asked)

    def save(self, path: Path) -> None:
        """Write results and summary as JSON; a kill leaves the old file or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        content = {"summary": self.summary(), "results": asdict(self)}
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        part.replace(path)

    def add(self, defence: str, attack: str, labels: Tensor, truth: Tensor) -> None:
        """Record a defence's labels [B] on a batch."""
        row = self.hits.setdefault(defence, {}).setdefault(attack, [])
        row += (labels.cpu() == truth).tolist()

    def summary(self) -> dict[str, Any]:
        """Everything that is reported, ready for JSON."""
        accuracy = {
            defence: {attack: _share(hits) for attack, hits in row.items()}
            for defence, row in self.hits.items()
        }
        scores = {name: torch.tensor(values) for name, values in self.suspicion.items()}
        areas = {
            name: round(auc(scores["clean"], attacked), 4)
            for name, attacked in scores.items()
            if name != "clean"
        }
        alarms = {
            name: {
                rate: round(float((values > threshold).float().mean()), 4)
                for rate, threshold in self.asked["thresholds"].items()
            }
            for name, values in scores.items()
        }
        return {
            "accuracy": accuracy,
            "paired": {name: self._paired(name) for name in self.hits if name != VIDEOPURE},
            "suspicion_auc": areas,
            "alarms": alarms,
            "seconds_per_clip": self.seconds,
        }

    def _paired(self, defence: str) -> dict[str, tuple[int, int]]:
        """By attack: clips that only VideoPure, and that only `defence`, got right."""
        pairs = {}
        for attack, hits in self.hits[defence].items():
            ours = self.hits[VIDEOPURE][attack]
            both = list(zip(ours, hits, strict=False))  # the slow ones saw only the first clips
            pairs[attack] = (sum(a and not b for a, b in both), sum(b and not a for a, b in both))
        return pairs


def _share(hits: list[bool]) -> dict[str, float]:
    low, high = wilson_interval(sum(hits), len(hits))
    share = sum(hits) / len(hits)
    return {"share": round(share, 4), "low": low, "high": high, "clips": len(hits)}


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print the tables in Markdown."""
    attacks = list(summary["accuracy"][VIDEOPURE])
    table = Table("defence", *attacks, "clips", box=MARKDOWN)
    for defence, row in summary["accuracy"].items():
        cells = [_cell(row.get(attack)) for attack in attacks]
        table.add_row(defence, *cells, str(row["clean"]["clips"]))
    console.print(table)
    paired = Table("against VideoPure", *attacks, box=MARKDOWN)
    for defence, pairs in summary["paired"].items():
        cells = ["+{} −{}".format(*pairs[a]) if a in pairs else "" for a in attacks]
        paired.add_row(defence, *cells)
    console.print(paired)
    scores = Table("suspicion", *attacks, box=MARKDOWN)
    areas = summary["suspicion_auc"]
    scores.add_row("ROC AUC", *(f"{areas[a]:.4f}" if a in areas else "" for a in attacks))
    for rate in summary["alarms"]["clean"]:
        shares = [f"{summary['alarms'][a][rate]:.1%}" for a in attacks]
        scores.add_row(f"alarms, calibrated to {float(rate):.0%} of clean clips", *shares)
    console.print(scores)
    console.print(f"seconds for one clip alone, median: {summary['seconds_per_clip']}")


def _cell(share: dict[str, float] | None) -> str:
    if share is None:
        return ""
    return f"{share['share']:.1%} ({share['low']:.0%}–{share['high']:.0%})"
