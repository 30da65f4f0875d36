"""Attacks that only query the served answers.

Square uses scores; RayS uses labels alone and searches for the direction with the nearest change of
label.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videopure.evaluation.attacks.rays import rays
from videopure.evaluation.attacks.square import search
from videopure.evaluation.attacks.threat_models import Task, Threat, as_stored
from videopure.evaluation.defences.base import Purified
from videopure.evaluation.served import LEVELS, ServedAnswers
from videopure.format.settings import Detail

__all__ = ["QUERIES", "queries", "served_lead"]

QUERIES = 1000


def queries(epsilon: int, count: int = QUERIES) -> dict[Detail, Threat]:
    """Attacks with this many queries of the server per clip, by the content of its answers.

    Args:
        epsilon: largest change of a pixel, in 1/255.
        count: at most this many queries per clip.
    """
    names = {
        "label": f"RayS-{count} by labels",
        "scores": f"Square-{count} by scores",
        "full": f"Square-{count} by full answers",
    }

    def at(level: Detail) -> Threat:
        return Threat(names[level], "queries", epsilon, lambda task: _attack(task, level, count))

    return {level: at(level) for level in LEVELS}


def _attack(task: Task, level: Detail, count: int) -> Tensor:
    if not isinstance(task.target, Purified):
        raise ValueError(f"{task.target.name!r} is not served: queries need a purifier")
    served = ServedAnswers(task.target.defended, level)

    def wrong(clips: Tensor, rows: Tensor) -> Tensor:
        return served.labels(as_stored(clips)) != task.labels[rows].cpu()

    def leads(clips: Tensor, rows: Tensor) -> Tensor:
        pairs = zip(served(as_stored(clips)), task.labels[rows].tolist(), strict=True)
        return torch.tensor([served_lead(*pair) for pair in pairs], device=clips.device)

    if level == "label":
        return rays(
            wrong,
            task.clips,
            epsilon=task.epsilon,
            queries=count,
            generator=task.generator,
        )
    return search(
        leads,
        task.clips,
        epsilon=task.epsilon,
        queries=count,
        generator=task.generator,
        ties=level == "scores",
    )


def served_lead(answer: dict[str, Any], truth: int) -> float:
    """How far the true class leads by the scores of an answer; negative where it is not the label.

    Rounded scores may tie, and the vote may name a class other than that of the best score.
    """
    scores = {p["label_id"]: p["score"] for p in answer["predictions"]}
    true = scores.pop(truth)
    difference: float = true - max(scores.values())
    if answer["predictions"][0]["label_id"] != truth:
        return min(difference, 0.0) - 1.0
    return max(difference, 0.0) + 1e-9
