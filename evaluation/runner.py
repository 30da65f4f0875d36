"""Runs a suite: attacks the clips, asks the defences, stores every unit when it is finished."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeGuard

import torch
from torch import Generator, Tensor

from videopure.evaluation.attacks.probe import probe
from videopure.evaluation.attacks.threat_models import Task
from videopure.evaluation.data import ClipSource
from videopure.evaluation.defences.base import Defence, DefenceAnswer, OneCandidate, Purified
from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.defences.purifiers import VIDEOPURE
from videopure.evaluation.metrics import psnr, ssim, warping_error
from videopure.evaluation.report.examples import Example, save_example
from videopure.evaluation.store import Record, Store
from videopure.evaluation.suites import Suite, Unit
from videopure.purifier.flow import DISFlow
from videopure.purifier.recognisers import Recogniser

__all__ = ["Evaluator", "run_suite", "seconds_alone"]

TIMED_CLIPS = 10

OnUnit = Callable[[Unit], object]


@dataclass(frozen=True)
class Evaluator:
    """The state that all units share.

    Args:
        defences: defences by name.
        recogniser: the recogniser behind them.
        source: the clips.
        transfer: a second recogniser, to transfer attacks from.
        seed: seed of all random draws.
        device: where the models are.
        served: the defence that the archive serves; it is timed, and frames of it are kept.
    """

    defences: dict[str, Defence]
    recogniser: Recogniser
    source: ClipSource
    transfer: Recogniser | None = None
    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    served: str = VIDEOPURE

    def evaluate(self, unit: Unit, store: Store) -> list[Record]:
        """Attack the unit's clips and ask its defences.

        All random draws depend on the unit and the seed alone, so a unit gives the same numbers in
        any run and process.
        """
        clips, labels, names = self.source.load(unit.start, unit.count)
        clips, labels = clips.to(self.device), labels.to(self.device)
        target = self.defences[unit.target] if unit.target else None
        start = time.perf_counter()
        task = Task(
            clips,
            labels,
            self.recogniser,
            unit.threat.epsilon / 255,
            self._generator(unit.key),
            self.transfer,
            target,
            together=self.device.type == "cuda",
        )
        attacked = unit.threat(task)
        attack_seconds = (time.perf_counter() - start) / unit.count
        gradients: Sequence[dict[str, float] | None] = [None] * unit.count
        if target is not None and target.exact and unit.threat.family.startswith("exact"):
            gradients = probe(task)
        change = (attacked - clips).abs().flatten(1).max(dim=1).values.tolist()
        records = []
        for name in unit.defences:
            defence = self.defences[name]
            seeds = self._seeds(f"{unit.key}|{name}", unit.count)
            start = time.perf_counter()
            fidelity: Sequence[dict[str, float] | None] = [None] * unit.count
            if unit.threat.knowledge == "clean" and _changes_clips(defence):
                answers, shown = defence.answer_and_show(attacked, seeds)
                seconds = (time.perf_counter() - start) / unit.count
                fidelity = _fidelity(clips, shown)
            else:
                answers = defence.answer(attacked, seeds)
                seconds = (time.perf_counter() - start) / unit.count
            asked = unit.threat.answers if defence.randomised else 1
            wrong = self._wrong(unit, name, attacked, labels, answers, asked)
            for k, answer in enumerate(answers):
                records.append(
                    Record(
                        threat=unit.threat.name,
                        family=unit.threat.family,
                        knowledge=unit.threat.knowledge,
                        epsilon=unit.threat.epsilon,
                        defence=name,
                        clip=unit.start + k,
                        name=names[k],
                        truth=int(labels[k]),
                        label=answer.label_id,
                        votes=list(answer.votes),
                        timesteps=list(answer.timesteps),
                        suspicion=answer.suspicion,
                        seconds=round(seconds, 4),
                        attack_seconds=round(attack_seconds, 4),
                        largest_change=round(change[k], 6),
                        fidelity=fidelity[k],
                        gradient=gradients[k],
                        answers=asked,
                        wrong_answers=wrong[k] if asked > 1 else None,
                    )
                )
            if name == self.served and unit.threat.knowledge != "clean":
                self._show(unit, store, clips, attacked, labels, answers)
        return records

    def _wrong(
        self,
        unit: Unit,
        name: str,
        attacked: Tensor,
        labels: Tensor,
        first: Sequence[DefenceAnswer],
        asked: int,
    ) -> list[int]:
        """The number of wrong answers out of `asked` for each clip, including the first."""
        answers = [list(first)]
        for again in range(1, asked):
            seeds = self._seeds(f"{unit.key}|{name}|{again}", unit.count)
            answers.append(self.defences[name].answer(attacked, seeds))
        return [
            sum(row[k].label_id != truth for row in answers)
            for k, truth in enumerate(labels.tolist())
        ]

    def _show(
        self,
        unit: Unit,
        store: Store,
        clips: Tensor,
        attacked: Tensor,
        labels: Tensor,
        answers: Sequence[DefenceAnswer],
    ) -> None:
        """Keep frames of the served defence's first success and first failure in the batch."""
        defence = self.defences[self.served]
        right = [answer.label_id == int(y) for answer, y in zip(answers, labels, strict=True)]
        for k in {right.index(outcome) for outcome in (True, False) if outcome in right}:
            with torch.no_grad():
                bare = int(self.recogniser.logits(attacked[k : k + 1]).argmax())
                purified = defence.candidates(attacked[k : k + 1], [0])[0][-1]
            save_example(
                store,
                Example(
                    threat=unit.threat.name,
                    clip=unit.start + k,
                    truth=int(labels[k]),
                    bare=bare,
                    label=answers[k].label_id,
                    frames=torch.stack((clips[k], attacked[k], purified)).cpu(),
                ),
            )

    def _generator(self, key: str) -> Generator:
        """The generator of an attack, always on the CPU."""
        return Generator().manual_seed(self._number(key))

    def _seeds(self, key: str, count: int) -> list[int]:
        return [self._number(f"{key}|{k}") for k in range(count)]

    def _number(self, key: str) -> int:
        digest = hashlib.sha256(f"{self.seed}|{key}".encode()).digest()
        return int.from_bytes(digest[:7], "big")


def run_suite(
    evaluator: Evaluator,
    suite: Suite,
    store: Store,
    *,
    process: int = 0,
    processes: int = 1,
    on_unit: OnUnit | None = None,
) -> None:
    """Compute what is not stored yet; several processes take turns with the units.

    Args:
        evaluator: what all units share.
        suite: the work to do.
        store: where finished units go.
        process, processes: this process's number, and the number of processes.
        on_unit: called with every unit of this process, including those already finished.
    """
    done = store.done()
    for unit in suite.units()[process::processes]:
        missing = tuple(d for d in unit.defences if (unit.key, d) not in done)
        if missing:
            store.add(unit.key, evaluator.evaluate(replace(unit, defences=missing), store))
        if on_unit is not None:
            on_unit(unit)


def seconds_alone(evaluator: Evaluator) -> dict[str, float]:
    """Median seconds for one clip alone, without defence and as served."""
    taken: dict[str, list[float]] = {NONE: [], evaluator.served: []}
    for number in range(min(TIMED_CLIPS, len(evaluator.source))):
        clips, _, _ = evaluator.source.load(number, 1)
        for name, seconds in taken.items():
            start = time.perf_counter()
            evaluator.defences[name].answer(clips.to(evaluator.device), [number])
            seconds.append(time.perf_counter() - start)
    return {name: round(median(seconds), 3) for name, seconds in taken.items()}


def _changes_clips(defence: Defence) -> TypeGuard[Purified]:
    """Whether a defence purifies clips, so that their fidelity is of interest."""
    return isinstance(defence, Purified) and not isinstance(defence, OneCandidate)


def _fidelity(clips: Tensor, purified: Sequence[Tensor]) -> list[dict[str, float] | None]:
    """Fidelity of purified clean clips [B, T, 3, H, W]; nothing if frames are too small."""
    if min(clips.shape[-2:]) < 11:
        return [None] * len(clips)
    flow = DISFlow()(clips)
    return [
        {
            "psnr": psnr(shown, clip),
            "ssim": ssim(shown, clip),
            "warping_error_before": warping_error(clip, motion),
            "warping_error_after": warping_error(shown, motion),
        }
        for clip, shown, motion in zip(clips, purified, flow, strict=True)
    ]
