"""Stored results: every finished unit adds a line to a file, so a killed run loses no finished
work.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

__all__ = ["EvaluationError", "Record", "Store", "disk_faults", "read_question"]

QUESTION = "question.json"
_FULL = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "has no quota left",
    errno.EFBIG: "takes no larger files (ulimit -f)",
}


class EvaluationError(ValueError):
    """The evaluation cannot continue; the message says what to do."""


@dataclass(frozen=True)
class Record:
    """The answer of one defence to one clip under one threat.

    Args:
        threat: name of the threat, such as "PGD-10 4/255".
        family, knowledge, epsilon: the threat's.
        defence: name of the defence.
        clip: number of the clip.
        name: where the clip comes from.
        truth, label: class ids.
        votes, timesteps: the votes that were counted.
        suspicion: the suspicion score, if the defence has one.
        seconds: time of the answer, the mean over its batch.
        attack_seconds: time of the attack, the mean over its batch.
        largest_change: largest change of a pixel, in 0..1.
        fidelity: for purified clean clips: psnr, ssim, and the warping error of the original and
            the purified clip.
        gradient: for attacks with the exact gradient, where it starts; see
            `videopure.evaluation.attacks.probe`.
        answers, wrong_answers: for a randomised defence, how often it was asked with other seeds,
            and how often it was wrong; `label` is the first answer.
    """

    threat: str
    family: str
    knowledge: str
    epsilon: int
    defence: str
    clip: int
    name: str
    truth: int
    label: int
    votes: list[int]
    timesteps: list[int]
    suspicion: float | None
    seconds: float
    attack_seconds: float
    largest_change: float
    fidelity: dict[str, float] | None = None
    gradient: dict[str, float] | None = None
    answers: int = 1
    wrong_answers: int | None = None

    @property
    def right(self) -> bool:
        """Whether the answer is the true class."""
        return self.label == self.truth

    @property
    def held(self) -> bool:
        """Whether all answers are the true class: an attacker may ask again."""
        return self.right and not self.wrong_answers


def read_question(folder: Path) -> dict[str, Any]:
    """The question that the results in a folder answer.

    Raises:
        EvaluationError: if it holds no results.
    """
    try:
        question: dict[str, Any] = json.loads((folder / QUESTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{folder} holds no results of videopure evaluate: {error}") from None
    return question


class Store:
    """The results in a folder, which all belong to one question.

    Args:
        folder: created if it does not exist.
        question: what is evaluated and how. A folder with results of another question is refused.
        writer: number of the process that adds lines; each has its own file.

    Raises:
        EvaluationError: if the folder holds the results of another question.
    """

    def __init__(self, folder: Path, question: dict[str, Any], writer: int = 0) -> None:
        self.folder = folder
        self._file = folder / f"units-{writer}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        asked = folder / QUESTION
        question = json.loads(json.dumps(question))
        if asked.is_file():
            stored = read_question(folder)
            changed = [k for k in {**stored, **question} if stored.get(k) != question.get(k)]
            if changed:
                raise EvaluationError(
                    f"{folder} holds the results of another evaluation, with other "
                    f"{', '.join(sorted(changed))}: choose another folder with --out"
                )
        elif writer == 0:
            self.write(QUESTION, json.dumps(question, indent=1) + "\n")
        self._mended = False

    def done(self) -> dict[tuple[str, str], list[Record]]:
        """Finished work of all processes: (unit, defence) -> records, one for each clip."""
        finished: dict[tuple[str, str], list[Record]] = {}
        for file in sorted(self.folder.glob("units-*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):  # otherwise a kill cut it
                    unit = json.loads(line)
                    for content in unit["records"]:
                        record = Record(**content)
                        finished.setdefault((unit["unit"], record.defence), []).append(record)
        return finished

    def records(self) -> list[Record]:
        """All answers, one for each threat, defence and clip, in the order of the clips.

        Batches of runs on fewer clips may overlap with later ones; the larger batch counts.
        """
        units = sorted(self.done().values(), key=len)
        found = {(r.threat, r.defence, r.clip): r for unit in units for r in unit}
        return sorted(found.values(), key=lambda record: record.clip)

    def add(self, unit: str, records: list[Record]) -> None:
        """Add a finished unit.

        Raises:
            EvaluationError: if the disk is full; results stored before stay readable.
        """
        line = json.dumps({"unit": unit, "records": [asdict(record) for record in records]}) + "\n"
        if not self._mended:  # not earlier: a store may be read while others write
            self._mend()
            self._mended = True
        with disk_faults(self.folder), self._file.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a whole file; a kill leaves the old one or the new one."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with disk_faults(self.folder):
            part.write_bytes(content.encode() if isinstance(content, str) else content)
            part.replace(path)
        return path

    def _mend(self) -> None:
        """Cut off a line that a kill or a full disk left unfinished."""
        if self._file.is_file():
            content = self._file.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with self._file.open("r+b") as file:
                    file.truncate(whole)


@contextmanager
def disk_faults(folder: Path) -> Iterator[None]:
    """Turn a full disk into an error that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else _number_in(str(error))
        if number not in _FULL:
            raise
        raise EvaluationError(
            f"the disk of {folder} {_FULL[number]}: make room and run the same command again; "
            "finished results are kept"
        ) from error


def _number_in(message: str) -> int | None:
    """The system's number of an error that safetensors reports only in words."""
    found = re.search(r"os error (\d+)", message)
    return int(found[1]) if found else None
