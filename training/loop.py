"""The training loop that all stages share: progress, learning curve, checkpoints, resuming."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Question", "StageLog", "step_generator", "train_steps"]

_SECONDS_BETWEEN_CHECKPOINTS = 60.0
_POINTS_ON_CURVE = 60


@dataclass
class StageLog:
    """The record of a stage: seconds it trained, its curve, how often it was resumed."""

    seconds: float = 0.0
    resumed: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)


class Question:
    """Identifies the run of a checkpoint, inside it: a checkpoint of another run is refused.

    Args:
        asked: everything that the run depends on, by name.
    """

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self._asked = dict(asked)

    def state_dict(self) -> dict[str, Any]:
        """The state for checkpoints."""
        return self._asked

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare with the state of a checkpoint.

        Raises:
            ValueError: naming what differs.
        """
        others = [name for name, value in self._asked.items() if state.get(name) != value]
        if others:
            raise ValueError(
                f"the checkpoint is of another run, with other {', '.join(others)}: remove it, or "
                "give another --workplace"
            )


def step_generator(seed: int, step: int) -> torch.Generator:
    """Randomness of one training step; a resumed run draws the same as an uninterrupted one."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def train_steps(
    name: str,
    total: int,
    step: Callable[[int], Mapping[str, float]],
    parts: Mapping[str, Any],
    checkpoint: Path,
    *,
    writes: bool = True,
) -> StageLog:
    """Run steps 0..total-1, starting where the checkpoint of an earlier run left off.

    Args:
        name: shown beside the progress bar.
        total: number of steps.
        step: does one step and returns the curve's values, such as the loss.
        parts: what the checkpoint holds (anything with `state_dict` and `load_state_dict`).
        checkpoint: file that is written every minute and at the end.
        writes: False only reads the checkpoint and shows nothing; with several processes only one
            writes.

    Returns:
        The stage's log, including earlier runs.
    """
    log, done = _resume(parts, checkpoint)
    log.resumed += 0 < done < total
    start = saved = time.monotonic() - log.seconds
    sums: dict[str, float] = {}
    points = max(1, total // _POINTS_ON_CURVE)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, disable=not writes) as progress:
        task = progress.add_task(name, total=total, completed=done)
        for index in range(done, total):
            for key, value in step(index).items():
                sums[key] = sums.get(key, 0.0) + value / points
            log.seconds = time.monotonic() - start
            if (index + 1) % points == 0:
                means = {key: round(value, 5) for key, value in sums.items()}
                log.curve.append({"step": index + 1, "seconds": round(log.seconds, 1), **means})
                if writes and not progress.console.is_terminal:  # a log file shows no bar
                    left = log.seconds / (index + 1) * (total - index - 1)
                    print(
                        f"{name} {index + 1}/{total} {means} {left / 60:.1f} min left", flush=True
                    )
                sums = {}
            due = time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS or index + 1 == total
            if writes and due:
                saved = time.monotonic()
                _save(parts, log, index + 1, checkpoint)
            progress.update(task, completed=index + 1)
    return log


def _resume(parts: Mapping[str, Any], checkpoint: Path) -> tuple[StageLog, int]:
    if not checkpoint.exists():
        return StageLog(), 0
    state = torch.load(checkpoint, weights_only=True)
    for key, part in parts.items():
        part.load_state_dict(state["parts"][key])
    log = StageLog(**state["log"])
    return log, int(state["step"])


def _save(parts: Mapping[str, Any], log: StageLog, step: int, checkpoint: Path) -> None:
    state = {
        "parts": {key: part.state_dict() for key, part in parts.items()},
        "log": {"seconds": log.seconds, "resumed": log.resumed, "curve": log.curve},
        "step": step,
    }
    part_file = checkpoint.with_suffix(".part")
    content = io.BytesIO()  # torch alone does not report a full disk
    torch.save(state, content)
    part_file.write_bytes(content.getbuffer())
    part_file.replace(checkpoint)
