"""Thousands of odd requests and damaged files through a worker's handler.

    python -m tests.fuzz.campaign --requests 5000 --files 5000 --seed 0

What a case is depends on its number and the seed alone: `--start` goes on where a run was ended,
and finds a fault again. `tests/e2e/test_hostile.py` sends a hundredth of them to a real TorchServe.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.parity import FIXTURE
from tests.support.fuzzing import Sent, fuzzed_file, fuzzed_request
from tests.support.handling import Told, ask, check, handler_of
from tests.support.models import save_recogniser
from videopure.archive import build_archive
from videopure.handler.torchserve import TorchServeHandler

__all__ = ["SETTINGS", "run"]

# Closed to clients, as by default.
SETTINGS: dict[str, Any] = {
    "videopure": {
        "limits": {"max_decode_seconds": 10},
        "purification": {"method": "one_look", "inversion_steps": 0},
        "threads": 1,
    }
}
_BATCH = 8
_REPEATED = 8  # of so many batches one is asked again together


def run(
    handler: TorchServeHandler,
    make: Callable[[int, int], Sent],
    seed: int,
    start: int,
    count: int,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Ask each case alone, and some again as one batch, which must change no status.

    Returns:
        What they were answered with, milliseconds, and the faults: cases that were answered
        otherwise than documented.
    """
    faults: list[str] = []
    statuses: Counter[int] = Counter()
    words: Counter[str] = Counter()
    seconds: list[float] = []
    together: list[tuple[Sent, int]] = []
    for number in range(start, start + count):
        sent = make(number, seed)
        try:
            (told,) = ask(handler, sent)
            check(told)
        except (AssertionError, KeyError, ValueError, RuntimeError, OSError) as error:
            faults.append(f"{make.__name__}({number}, {seed}): {error!r}"[:500])
            report(faults[-1])
            continue
        statuses[told.status] += 1
        words[_kind(told)] += 1
        seconds.append(told.seconds)
        together.append((sent, told.status))
        if len(together) == _BATCH:
            if number // _BATCH % _REPEATED == 0:
                alone = [status for _, status in together]
                batch = [told.status for told in ask(handler, *(sent for sent, _ in together))]
                if batch != alone:
                    faults.append(f"{number}: in a batch {batch}, alone {alone}")
            together.clear()
        if number % 500 == 0:
            report(f"{make.__name__} {number}: {dict(statuses)}")
    return {
        "cases": len(seconds),
        "faults": faults,
        "statuses": dict(sorted(statuses.items())),
        "ended_by_force": words["killed"] + words["broken"],
        "ms": _times(seconds),
    }


def _times(seconds: list[float]) -> dict[str, float]:
    """Milliseconds by the clock."""
    if len(seconds) < 2:
        return {}
    cut = statistics.quantiles(seconds, n=100)
    told = {"median": cut[49], "p99": cut[98], "max": max(seconds)}
    return {name: round(1000 * value, 1) for name, value in told.items()}


def _kind(told: Told) -> str:
    """Whether the process that decodes had to be killed, or died."""
    if told.status == 413 and "takes longer" in told.message:
        return "killed"
    return "broken" if told.status == 422 and "crashes the decoder" in told.message else "ended"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recogniser = save_recogniser(folder / "recogniser")
        archive = build_archive(recogniser, FIXTURE / "model_seed0", folder / "videopure.mar")
        with handler_of(archive, folder, SETTINGS) as handler:
            for make, count in ((fuzzed_request, chosen.requests), (fuzzed_file, chosen.files)):
                spent = time.process_time()
                told = run(handler, make, chosen.seed, chosen.start, count, _say)
                told["cpu_s"] = round(time.process_time() - spent, 1)
                print(json.dumps({"of": make.__name__, "seed": chosen.seed, **told}), flush=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
