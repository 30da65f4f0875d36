"""Square Attack for clips: random search that uses only the model's answers (arXiv 1912.00049)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from videopure.evaluation.attacks.losses import lead
from videopure.evaluation.attacks.threat_models import AdaptiveAttack, Attack, Task

__all__ = ["ATTACKS", "search", "square"]

QUERIES = 1000


@torch.no_grad()
def square(
    logits: Callable[[Tensor], Tensor],
    clips: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    queries: int = QUERIES,
    initial_share: float = 0.3,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Lower the true class's lead by repainting boxes, keeping what helps.

    As published for images, but a step changes a box of neighbouring frames, rows and columns.
    Clips that are already misclassified are left unchanged.

    Args:
        logits: the model under attack, clips -> [B, classes].
        clips: [B, T, 3, H, W] in 0..1.
        labels: true classes, [B].
        epsilon: largest change of a pixel (L-inf), in 0..1.
        queries: at most this many calls of the model per clip.
        initial_share: share of the clip that the first boxes cover.
        generator: generator of all random choices.

    Returns:
        Attacked clips, like `clips`.
    """
    return search(
        lambda shown, rows: lead(logits(shown), labels[rows]),
        clips,
        epsilon=epsilon,
        queries=queries,
        initial_share=initial_share,
        generator=generator,
    )


@torch.no_grad()
def search(
    leads: Callable[[Tensor, Tensor], Tensor],
    clips: Tensor,
    *,
    epsilon: float,
    queries: int = QUERIES,
    initial_share: float = 0.3,
    generator: torch.Generator | None = None,
    ties: bool = False,
) -> Tensor:
    """The search of `square`.

    Args:
        leads: clips [N, T, 3, H, W] and their rows in the batch, [N] -> how far the true class
            leads in the answer, [N]; negative where it is not the answer.
        ties: also accept steps that change nothing, because rounded answers have plateaus.
    """
    everyone = torch.arange(len(clips), device=clips.device)
    stripes = torch.randint(2, (*clips.shape[:3], 1, clips.shape[4]), generator=generator)
    stripes = stripes.to(clips)
    best = (clips + epsilon * (2 * stripes - 1)).clamp(0, 1)
    margins = leads(best, everyone)
    for query in range(1, queries):
        active = (margins > 0).nonzero().flatten()
        if not len(active):
            break
        share = initial_share * _share_left(query / queries)
        candidates = best[active].clone()
        for candidate, clip in zip(candidates, clips[active], strict=True):
            _repaint_box(candidate, clip, epsilon, share, generator)
        changed = leads(candidates, active)
        better = changed <= margins[active] if ties else changed < margins[active]
        best[active[better]] = candidates[better]
        margins[active[better]] = changed[better]
    return best


def _share_left(progress: float) -> float:
    """The published schedule: the boxes' volume is halved at these points of the search."""
    halvings = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    return float(0.5 ** sum(progress > point for point in halvings))


def _repaint_box(
    candidate: Tensor, clip: Tensor, epsilon: float, share: float, generator: torch.Generator | None
) -> None:
    """Set a random box of a clip [T, 3, H, W] to the clip plus or minus epsilon, by channel."""
    frames, channels, height, width = clip.shape
    corner = []
    for size in (frames, height, width):
        side = min(size, max(1, round(size * share ** (1 / 3))))
        start = int(torch.randint(size - side + 1, (1,), generator=generator))
        corner.append(slice(start, start + side))
    box = (corner[0], slice(None), corner[1], corner[2])
    signs = 2 * torch.randint(2, (1, channels, 1, 1), generator=generator).to(clip) - 1
    candidate[box] = (clip[box] + epsilon * signs).clamp(0, 1)


def _on_recogniser(task: Task) -> Tensor:
    return square(
        task.recogniser.logits,
        task.clips,
        task.labels,
        epsilon=task.epsilon,
        generator=task.generator,
    )


def _on_defence(task: Task, steps: int, draws: int) -> Tensor:
    """Search with the soft vote of the whole defence; `steps` is the number of queries."""

    def logits(clips: Tensor) -> Tensor:
        seeds = torch.randint(2**62, (len(clips),), generator=task.generator).tolist()
        return task.target.logits(clips, seeds)

    return square(
        logits,
        task.clips,
        task.labels,
        epsilon=task.epsilon,
        queries=steps,
        generator=task.generator,
    )


ATTACKS = (
    Attack(f"Square-{QUERIES}", "black-box", _on_recogniser),
    AdaptiveAttack("Square through the defence", _on_defence),
)
