"""Measure the demo: `python -m videopure.demo.evaluate`.

Attacks the bare recogniser on fresh clips and prints, in Markdown, how many clips each defence
still gets right, with 95 % Wilson intervals. The clips come from the test stream unless another is
named; settings are chosen on the validation stream. A run that is interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Generator, Tensor

from videopure.demo import BUNDLE
from videopure.demo.bundle_files import BundleSettings, load_defended
from videopure.demo.clips import Split, Stream
from videopure.demo.dataset import load_split
from videopure.demo.defences import ablations, ddpm, diffusion, filters
from videopure.demo.results import VIDEOPURE, Evaluation, print_summary
from videopure.evaluation.attacks import pgd
from videopure.evaluation.losses import label_loss
from videopure.evaluation.square import square
from videopure.handler.manifest import digest_files
from videopure.purifier import DefendedRecogniser, Recogniser, load_recogniser

__all__ = ["Attack", "attacks_on", "evaluate"]

BATCH = 10
TIMED_CLIPS = 10
SQUARE_QUERIES = 1000

# Clips [B, T, 3, H, W], true classes [B], randomness -> attacked clips.
Method = Callable[[Tensor, Tensor, Generator], Tensor]


@dataclass(frozen=True)
class Attack:
    """One column of the table; `compared` asks the slow comparisons too."""

    name: str
    method: Method
    compared: bool

    def __call__(self, clips: Tensor, truth: Tensor, seed: int) -> Tensor:
        """Attacked clips, rounded to the 256 levels that a stored clip has."""
        attacked = self.method(clips, truth, Generator().manual_seed(seed))
        return (attacked * 255).round() / 255


def attacks_on(recogniser: Recogniser, transfer: Recogniser) -> list[Attack]:
    """No attack, those on the bare recogniser, and those made on another one."""

    def gradient(on: Recogniser, epsilon: int, steps: int) -> Method:
        return lambda clips, truth, generator: pgd(
            label_loss(on.logits, truth),
            clips,
            epsilon=epsilon / 255,
            steps=steps,
            generator=generator,
        )

    black_box = partial(square, recogniser.logits, epsilon=8 / 255, queries=SQUARE_QUERIES)
    return [
        Attack("clean", lambda clips, truth, generator: clips, compared=True),
        Attack("PGD-10 4/255", gradient(recogniser, 4, 10), compared=True),
        Attack("PGD-10 8/255", gradient(recogniser, 8, 10), compared=True),
        Attack("PGD-50 4/255", gradient(recogniser, 4, 50), compared=False),
        Attack("PGD-50 8/255", gradient(recogniser, 8, 50), compared=False),
        Attack(
            "Square 8/255",
            lambda clips, truth, generator: black_box(clips, truth, generator=generator),
            compared=False,
        ),
        Attack("transfer 8/255", gradient(transfer, 8, 10), compared=False),
    ]


@torch.no_grad()
def _ask_all(
    defended: DefendedRecogniser,
    frames: Tensor,
    truth: Tensor,
    attack: Attack,
    result: Evaluation,
    *,
    with_ddpm: bool,
) -> None:
    """Record what every defence answers to clips [B, T, 3, H, W]."""
    rows = list(filters(defended, frames))
    verdicts = defended.answer(frames).verdicts  # exactly as served
    rows.append((VIDEOPURE, torch.tensor([v.label_id for v in verdicts])))
    result.suspicion.setdefault(attack.name, []).extend(
        v.suspicion for v in verdicts if v.suspicion is not None
    )
    if attack.compared:
        rows += [*diffusion(defended, frames), *ablations(defended, frames)]
        rows += ddpm(defended, frames) if with_ddpm else []
    for defence, labels in rows:
        result.add(defence, attack.name, labels, truth)


def evaluate(
    bundle: Path,
    split: Split,
    clips: int,
    ddpm_clips: int,
    output: Path,
    only: Sequence[str] = (),
) -> Evaluation:
    """Attack the bare recogniser on the first clips of a stream and ask every defence.

    Args:
        bundle: folder of the demo bundle.
        split: name of the stream.
        clips: how many clips.
        ddpm_clips: on how many of them DDPM, by far the slowest, is tried.
        output: JSON file of the results, written after every batch.
        only: names of the attacks to try beside no attack; by default all.
    """
    asked: dict[str, Any] = {
        "split": split,
        "ddpm_clips": ddpm_clips,
        "thresholds": BundleSettings.read(bundle).suspicion_thresholds,
        "bundle": {n: r.sha256 for n, r in digest_files(bundle).items() if not n.endswith(".md")},
    }
    defended = load_defended(bundle)
    attacks = attacks_on(defended.recogniser, load_recogniser(bundle / "recogniser_transfer"))
    if only:
        asked["only"] = list(only)
        attacks = [attack for attack in attacks if attack.name in ("clean", *only)]
    result, stream = Evaluation.resume(output, asked), Stream(split)
    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        total = clips * len(attacks)
        task = progress.add_task("evaluating", total=total, completed=result.done * len(attacks))
        for start in range(result.done, clips, BATCH):
            count = min(BATCH, clips - start)
            clean, truth = load_split(stream, start, count)
            for attack in attacks:
                frames = attack(clean, truth, seed=start)
                with_ddpm = start < ddpm_clips
                _ask_all(defended, frames, truth, attack, result, with_ddpm=with_ddpm)
                progress.advance(task, count)
            result.done = start + count
            result.save(output)
    result.seconds = _time(defended, stream)
    result.save(output)
    return result


def _time(defended: DefendedRecogniser, stream: Stream) -> dict[str, float]:
    """Median seconds for one clip alone, as served."""
    taken: dict[str, list[float]] = {"bare": [], VIDEOPURE: []}
    for i in range(TIMED_CLIPS):
        clip, _ = load_split(stream, i, 1)
        for name, purify in (("bare", False), (VIDEOPURE, True)):
            start = time.perf_counter()
            defended.answer(clip, purify=purify)
            taken[name].append(time.perf_counter() - start)
    return {name: round(median(values), 3) for name, values in taken.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="videopure.demo.evaluate", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--split", choices=get_args(Split), default="test")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--ddpm-clips", type=int, default=40, help="DDPM takes by far the longest")
    parser.add_argument("--attacks", nargs="+", default=(), help="names, as the table has them")
    parser.add_argument("--threads", type=int, help="CPU threads to use")
    parser.add_argument("--output", type=Path, default=Path("build/evaluate-demo.json"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    result = evaluate(
        arguments.bundle,
        arguments.split,
        arguments.clips,
        arguments.ddpm_clips,
        arguments.output,
        arguments.attacks,
    )
    print_summary(result.summary(), Console(width=200))


if __name__ == "__main__":
    main()
