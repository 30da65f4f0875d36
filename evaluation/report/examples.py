"""Frames kept for the report: a clean clip, attacked and purified."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from videopure.evaluation.store import Store

__all__ = ["Example", "load_examples", "save_example"]

FOLDER = "examples"
SHOWN_FRAMES = 4
PER_THREAT = 2  # examples of each outcome


@dataclass(frozen=True, eq=False)
class Example:
    """One clip under one threat, and the answers to it.

    Args:
        threat: name of the threat.
        clip: number of the clip.
        truth, bare, label: the true class, the bare recogniser's and the served answer.
        frames: the clip clean, attacked and purified, [3, T, 3, H, W] in 0..1; a few frames of each
            if it was stored.
    """

    threat: str
    clip: int
    truth: int
    bare: int
    label: int
    frames: Tensor

    @property
    def right(self) -> bool:
        """Whether the served answer is right."""
        return self.label == self.truth


def save_example(store: Store, example: Example) -> None:
    """Store a few frames, spread over the clip."""
    total = example.frames.shape[1]
    count = min(SHOWN_FRAMES, total)
    chosen = [(2 * k + 1) * total // (2 * count) for k in range(count)]
    frames = (example.frames[:, chosen] * 255).round().byte().numpy()
    meta = {k: getattr(example, k) for k in ("threat", "clip", "truth", "bare", "label")}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, frames=frames, meta=json.dumps(meta))
    outcome = "right" if example.right else "wrong"
    threat = "".join(c if c.isalnum() else "-" for c in example.threat)
    store.write(f"{FOLDER}/{threat}-{example.clip:05d}-{outcome}.npz", buffer.getvalue())


def load_examples(store: Store) -> dict[str, list[Example]]:
    """The first successes and the first failures, by threat."""
    found: dict[str, list[Example]] = {}
    for path in sorted((store.folder / FOLDER).glob("*.npz")):
        with np.load(path) as stored:
            meta = json.loads(str(stored["meta"]))
            frames = torch.from_numpy(stored["frames"]).float() / 255
        example = Example(frames=frames, **meta)
        alike = [e for e in found.get(example.threat, []) if e.right == example.right]
        if len(alike) < PER_THREAT:
            found.setdefault(example.threat, []).append(example)
    return found
