"""Measure the demo: `python -m videopure.demo.evaluate`.

Attacks the bare recogniser on fresh clips and prints how many clips each defence still gets right,
with 95 % Wilson intervals. The clips come from the test stream unless another is named; settings
are chosen on the validation stream.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from videopure.demo import BUNDLE
from videopure.demo.attacks import pgd
from videopure.demo.bundle_files import BundleSettings, load_defended
from videopure.demo.clips import SPLITS, Stream
from videopure.demo.dataset import load_split
from videopure.demo.filters import gaussian_blur, h264, jpeg, temporal_median
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.guidance import Guidance
from videopure.purifier.pipeline import Method
from videopure.purifier.recognisers import load_recogniser
from videopure.purifier.schedule import predict_x0
from videopure.purifier.voting import count_votes, majority

__all__ = ["Evaluation", "evaluate", "wilson_interval"]

BATCH = 10
TIMED_CLIPS = 10
# The whole scheme once more, and each of its ideas taken away alone.
VIDEOPURE = "VideoPure"
DIFFUSION: dict[str, Method] = {
    "plain DDIM inversion": "ddim_inversion",
    "DDIM noise and denoise": "ddim",
    "DDPM": "ddpm",
}


@dataclass
class Evaluation:
    """Results so far: hits[defence][attack] lists, clip by clip, whether the answer was right."""

    hits: dict[str, dict[str, list[bool]]] = field(default_factory=dict)
    suspicion: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

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
        auc = {
            name: round(_auc(scores["clean"], attacked), 4)
            for name, attacked in scores.items()
            if name != "clean"
        }
        return {"accuracy": accuracy, "seconds_per_clip": self.seconds, "suspicion_auc": auc}


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (E. B. Wilson, 1927), in 0..1."""
    if count < 1 or not 0 <= hits <= count:
        raise ValueError(f"hits must be in 0..count with count at least 1, got {hits} of {count}")
    z, share = 1.959964, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def evaluate(
    bundle: Path,
    split: str,
    clips: int,
    ddpm_clips: int,
    epsilons: tuple[int, ...] = (4, 8),
    first: int = 0,
) -> Evaluation:
    """Attack the bare recogniser on clips of a stream and ask every defence.

    Args:
        bundle: folder of the demo bundle.
        split: name of the stream.
        clips: how many clips.
        ddpm_clips: on how many of them DDPM, by far the slowest, is tried.
        epsilons: budgets of PGD-10 in 1/255 of the pixel range.
        first: number of the first clip.
    """
    defended = load_defended(bundle)
    recogniser, result, stream = defended.recogniser, Evaluation(), Stream(split)  # type: ignore[arg-type]
    transfer = load_recogniser(bundle / "recogniser_transfer")
    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task("evaluating", total=clips * (len(epsilons) + 2))
        for start in range(0, clips, BATCH):
            count = min(BATCH, clips - start)
            clean, truth = load_split(stream, first + start, count)
            for name, logits, epsilon in (
                ("clean", recogniser.logits, 0),
                *((f"PGD {e}/255", recogniser.logits, e) for e in epsilons),
                ("transfer 8/255", transfer.logits, 8),
            ):
                frames = _attack(logits, clean, truth, epsilon, first + start)
                for defence, labels in _answers(defended, frames, name, start < ddpm_clips, result):
                    result.add(defence, name, labels, truth)
                progress.advance(task, count)
    result.seconds = _time(defended, stream)
    return result


def _attack(
    logits: Callable[[Tensor], Tensor], clean: Tensor, truth: Tensor, epsilon: int, seed: int
) -> Tensor:
    """PGD-10 with step 2/255, rounded to the 256 levels that a stored clip has."""
    if epsilon == 0:
        return clean
    generator = torch.Generator().manual_seed(seed)
    attacked = pgd(
        logits, clean, truth, epsilon=epsilon / 255, step_size=2 / 255, generator=generator
    )
    return (attacked * 255).round() / 255


@torch.no_grad()
def _answers(
    defended: DefendedRecogniser, frames: Tensor, attack: str, with_ddpm: bool, result: Evaluation
) -> Iterator[tuple[str, Tensor]]:
    """The label of each clip [B] under each defence."""
    logits, pipeline = defended.recogniser.logits, defended.pipeline
    filters: dict[str, Callable[[Tensor], Tensor]] = {
        "none": lambda clips: clips,
        "codec round trip": lambda clips: pipeline.decode(pipeline.encode(clips)),
        "JPEG quality 20": jpeg,
        "H.264 crf 35": h264,
        "Gaussian blur, sigma 2": gaussian_blur,
        "temporal median of 3": temporal_median,
    }
    for name, clean_up in filters.items():
        yield name, logits(clean_up(frames)).argmax(1)
    if attack.startswith("transfer"):
        yield VIDEOPURE, _videopure(defended, frames, attack, result)
        return
    for name, method in DIFFUSION.items():
        if method != "ddpm" or with_ddpm:
            seeds = list(range(len(frames)))
            verdicts = defended.answer(frames, method=method, seeds=seeds).verdicts
            yield name, torch.tensor([v.label_id for v in verdicts])
    yield VIDEOPURE, _videopure(defended, frames, attack, result)
    yield from _ablations(defended, frames)


def _videopure(
    defended: DefendedRecogniser, frames: Tensor, attack: str, result: Evaluation
) -> Tensor:
    """Labels [B] exactly as served; their suspicion goes into the result."""
    verdicts = defended.answer(frames).verdicts
    scores = result.suspicion.setdefault(attack, [])
    scores += [v.suspicion for v in verdicts if v.suspicion is not None]
    return torch.tensor([v.label_id for v in verdicts])


def _ablations(defended: DefendedRecogniser, frames: Tensor) -> Iterator[tuple[str, Tensor]]:
    """VideoPure with one idea taken away at a time: labels [B] each."""
    guided, plain = _candidate_labels(defended, frames, temporal=True)
    yield "VideoPure without guidance", _vote(defended, plain)
    yield "VideoPure without vote, first candidate", guided[:, 0]
    yield "VideoPure without vote, last candidate", guided[:, -1]
    guided, _ = _candidate_labels(defended, frames, temporal=False)
    yield "VideoPure with all-frame inversion", _vote(defended, guided)


def _candidate_labels(
    defended: DefendedRecogniser, frames: Tensor, *, temporal: bool
) -> tuple[Tensor, Tensor]:
    """Labels of all candidates [B, K + 1], guided and unguided."""
    settings, pipeline = defended.settings, defended.pipeline
    schedule = pipeline.schedule(settings.inversion_steps, settings.num_inference_steps)
    guidance = Guidance(reference=settings.guidance_reference)
    encoded, flow = pipeline.encode(frames), pipeline.estimate_flow(frames)
    noisy = pipeline.invert(encoded, schedule, temporal=temporal)[-1]
    guided: list[Tensor] = []
    plain: list[Tensor] = []
    for step in pipeline.denoise(noisy, encoded, flow, schedule, guidance):
        final = step.level.timestep == 0
        unguided = step.latents if final else predict_x0(step.latents, step.noise, step.level.alpha)
        for labels, latents in ((guided, step.candidate), (plain, unguided)):
            labels.append(defended.recogniser.logits(pipeline.decode(latents)).argmax(1))
    return torch.stack(guided, dim=1), torch.stack(plain, dim=1)


def _vote(defended: DefendedRecogniser, labels: Tensor) -> Tensor:
    return majority(count_votes(labels, len(defended.recogniser.labels)))


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


def _share(hits: list[bool]) -> dict[str, float]:
    low, high = wilson_interval(sum(hits), len(hits))
    share = sum(hits) / len(hits)
    return {"share": round(share, 4), "low": low, "high": high, "clips": len(hits)}


def _auc(negative: Tensor, positive: Tensor) -> float:
    """Probability that a positive scores higher than a negative; ties count half."""
    difference = positive[:, None] - negative[None, :]
    return float(((difference > 0).double() + 0.5 * (difference == 0).double()).mean())


def _print(summary: dict[str, Any], console: Console) -> None:
    attacks = list(summary["accuracy"]["none"])
    table = Table("defence", *attacks, title="clips answered rightly (95 % Wilson interval)")
    for defence, row in summary["accuracy"].items():
        cells = []
        for attack in attacks:
            cell = row.get(attack)
            cells.append(
                f"{cell['share']:.1%} ({cell['low']:.0%}–{cell['high']:.0%})" if cell else ""
            )
        table.add_row(defence, *cells)
    console.print(table)
    for key in ("seconds_per_clip", "suspicion_auc", "false_alarms"):
        console.print(f"{key.replace('_', ' ')}: {summary[key]}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="videopure.demo.evaluate", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--ddpm-clips", type=int, default=50, help="DDPM takes by far the longest")
    parser.add_argument("--first", type=int, default=0, help="number of the first clip")
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
        first=arguments.first,
    )
    summary = result.summary()
    clean = torch.tensor(result.suspicion["clean"])
    summary["false_alarms"] = {
        rate: round(float((clean > threshold).float().mean()), 4)
        for rate, threshold in BundleSettings.read(arguments.bundle).suspicion_thresholds.items()
    }
    asked = {key: str(value) for key, value in vars(arguments).items()}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({"arguments": asked, **summary}, indent=1) + "\n")
    _print(summary, Console(width=140))


if __name__ == "__main__":
    main()
