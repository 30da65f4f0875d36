"""What fast mode and each of its shortcuts save; `videopure evaluate` measures their cost."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from benchmarks.counting import count_flops
from benchmarks.measure import interleave
from benchmarks.setups import Setup
from videopure.evaluation.defences.purifiers import VIDEOPURE, fast_forms
from videopure.purifier import DefendedRecogniser

__all__ = ["compare_shortcuts"]


def compare_shortcuts(setup: Setup, rounds: int) -> dict[str, Any]:
    """Time and counted work of one answer with each shortcut, and their ratios."""
    forms = {VIDEOPURE: setup.defended}
    faster = fast_forms(setup.defended.settings)
    forms |= {name: setup.with_settings(**changes) for name, changes in faster.items()}
    clips = setup.clips.split(1)
    ways = {name: partial(_answer, defended, clips) for name, defended in forms.items()}
    rows = {name: timing.summary() for name, timing in interleave(ways, rounds).items()}
    for name, way in ways.items():
        rows[name]["gflop"] = count_flops(partial(way, 0)) / 1e9
        for key in ("ms", "cpu_ms", "gflop"):
            rows[name][f"{key}_ratio"] = rows[VIDEOPURE][key] / rows[name][key]
    return {"setup": setup.name, "ways": rows}


def _answer(defended: DefendedRecogniser, clips: tuple[Tensor, ...], number: int) -> None:
    defended.answer(clips[number % len(clips)])
