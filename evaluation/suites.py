"""What `quick`, `paper` and `full` evaluate: which threats, against which defences, on how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from videopure.evaluation.defences import Defence, Purified
from videopure.evaluation.line_up import NONE, VIDEOPURE
from videopure.evaluation.store import EvaluationError
from videopure.evaluation.threats import (
    CLEAN,
    Threat,
    adaptive,
    gray_box,
    square_threat,
    unbounded,
)

__all__ = ["SUITES", "Planned", "Suite", "SuiteName", "Unit", "make_suite"]

SuiteName = Literal["quick", "paper", "full"]
SUITES: tuple[SuiteName, ...] = get_args(SuiteName)

# The paper's table, in its order.
PAPER = (NONE, "DDPM (DiffPure)", "DDIM", "DDIM inversion", VIDEOPURE)
# Defences that take many times as long as the others.
SLOW = ("DDPM (DiffPure)",)


@dataclass(frozen=True)
class Planned:
    """One threat on the first `clips` clips.

    Args:
        threat: the attack.
        defences: those that answer the attacked clips; an adaptive threat attacks each by itself.
        clips: how many clips.
        fewer: other counts for some defences.
    """

    threat: Threat
    defences: tuple[str, ...]
    clips: int
    fewer: dict[str, int] = field(default_factory=dict)

    def count(self, defence: str) -> int:
        """How many clips a defence answers."""
        return min(self.clips, self.fewer.get(defence, self.clips))


@dataclass(frozen=True)
class Unit:
    """What is computed and stored at once: one threat on one batch of clips."""

    threat: Threat
    defences: tuple[str, ...]
    start: int
    count: int

    @property
    def target(self) -> str | None:
        """The defence under attack, of adaptive threats."""
        return self.defences[0] if self.threat.knowledge == "adaptive" else None

    @property
    def key(self) -> str:
        """Names the unit in stored results."""
        return f"{self.threat.name}|{self.target or '*'}|{self.start}+{self.count}"


@dataclass(frozen=True)
class Suite:
    """All that is planned, and in what batches."""

    name: str
    planned: tuple[Planned, ...]
    batch: int = 10

    @property
    def clips(self) -> int:
        """Clips that are needed."""
        return max(planned.clips for planned in self.planned)

    def units(self) -> list[Unit]:
        """The work, in an order in which the first results say most."""
        units = []
        for planned in self.planned:
            groups = [planned.defences]
            if planned.threat.knowledge == "adaptive":
                groups = [(defence,) for defence in planned.defences]
            for group in groups:
                most = max(planned.count(defence) for defence in group)
                for start in range(0, most, self.batch):
                    answering = tuple(d for d in group if start < planned.count(d))
                    count = min(self.batch, most - start)
                    units.append(Unit(planned.threat, answering, start, count))
        return units


def make_suite(
    name: SuiteName,
    defences: dict[str, Defence],
    *,
    clips: int | None = None,
    transfer: bool = True,
    only_threats: Sequence[str] = (),
    only_defences: Sequence[str] = (),
) -> Suite:
    """The suite of this name for these defences.

    Args:
        name: one of `SUITES`.
        defences: by name; see `line_up`.
        clips: no more clips than this for any threat.
        transfer: whether there is a second recogniser to transfer attacks from.
        only_threats: names or families of threats to keep; all when empty.
        only_defences: names of defences to keep; all when empty.

    Raises:
        EvaluationError: if nothing of that name is planned.
    """
    plan = {"quick": _quick, "paper": _paper, "full": _full}[name](defences)
    _check_names("threat", only_threats, {n for p in plan for n in _names(p.threat)})
    _check_names("defence", only_defences, {d for p in plan for d in p.defences})
    kept = []
    for planned in plan:
        answering = tuple(d for d in planned.defences if not only_defences or d in only_defences)
        wanted = not only_threats or set(only_threats) & set(_names(planned.threat))
        possible = transfer or planned.threat.family != "transfer"
        if wanted and possible and answering:
            most = min(planned.clips, clips or planned.clips)
            kept.append(replace(planned, defences=answering, clips=most))
    return Suite(name, tuple(kept))


def _names(threat: Threat) -> tuple[str, str]:
    return threat.name, threat.family


def _check_names(what: str, asked: Sequence[str], known: set[str]) -> None:
    for name in asked:
        if name not in known:
            raise EvaluationError(
                f"the suite has no {what} {name!r}; it has {', '.join(sorted(known))}"
            )


def _quick(defences: dict[str, Defence]) -> list[Planned]:
    """Ten minutes on two cores with the demo's archive."""
    forms = f"{VIDEOPURE}, fresh noise"
    plain = (n for n in defences if n == VIDEOPURE or not n.startswith(VIDEOPURE))
    shown = tuple(name for name in plain if name not in SLOW)
    at_4, on_4 = gray_box(4), adaptive(4, steps=10, draws=1)
    return [
        Planned(CLEAN, (*shown, forms), 20),
        Planned(at_4["PGD-10"], (*shown, forms), 20),
        Planned(gray_box(8)["PGD-10"], (*shown, forms), 20),
        Planned(on_4["BPDA-10"], (VIDEOPURE,), 10),
        Planned(on_4["exact-10"], (VIDEOPURE, forms), 10),
        Planned(unbounded(10), (VIDEOPURE,), 2),
    ]


def _paper(defences: dict[str, Defence]) -> list[Planned]:
    """The paper's columns: clean, standard, gray-box and adaptive accuracy."""
    planned = [Planned(CLEAN, PAPER, 100)]
    for epsilon in (4, 8):
        planned.append(Planned(gray_box(epsilon)["PGD-10"], PAPER, 100))
    for epsilon in (4, 8):
        on = adaptive(epsilon)
        planned += [Planned(on[f], PAPER[1:], 20) for f in on if f.startswith(("BPDA", "exact-"))]
    return planned


def _full(defences: dict[str, Defence]) -> list[Planned]:
    """Everything, the strongest attacks on VideoPure and its randomised forms first."""
    everyone = tuple(defences)
    fewer = dict.fromkeys(SLOW, 40)
    forms = tuple(name for name in everyone if name.startswith(f"{VIDEOPURE},"))
    others = tuple(n for n in everyone if n not in forms and n not in (NONE, VIDEOPURE, *SLOW))
    taken = (VIDEOPURE, *SLOW)
    guessing = tuple(n for n in everyone if isinstance(defences[n], Purified) and n not in taken)
    main = ("PGD-10", "PGD-50", "APGD-CE", "APGD-margin", "MI-FGSM")
    planned = [Planned(CLEAN, everyone, 200, fewer)]
    planned += [Planned(gray_box(e)["PGD-10"], everyone, 200, fewer) for e in (4, 8)]
    for epsilon in (4, 8):
        on = adaptive(epsilon)
        planned += [
            Planned(on["exact-20"], (VIDEOPURE,), 50),
            Planned(on["BPDA-20"], (VIDEOPURE,), 50),
            Planned(on["exact-20"], forms, 20),
            Planned(on["label and suspicion-20"], (VIDEOPURE,), 50),
            Planned(on["exact APGD-20"], (VIDEOPURE,), 50),
        ]
    planned.append(Planned(unbounded(), (NONE, VIDEOPURE, *forms), 10))
    for epsilon in (4, 8):
        at = gray_box(epsilon)
        planned += [Planned(at[f], everyone, 200, fewer) for f in main[1:]]
        planned.append(Planned(at["transfer"], everyone, 200, fewer))
    for family in ("flickering", "sparse frames"):
        planned.append(Planned(gray_box(8)[family], everyone, 200, fewer))
    planned.append(Planned(square_threat(8), everyone, 200, fewer))
    planned += [Planned(gray_box(e)["PGD-10"], everyone, 200, fewer) for e in (1, 2, 16)]
    on = adaptive(4)
    planned += [Planned(on["exact-20"], others, 20), Planned(on["BPDA-20"], guessing, 20)]
    planned.append(Planned(on["exact-20"], SLOW, 20))
    return planned
