"""The suites: which threats, against which defences, on how many clips.

A unit of work is named by threat, clips and defence, not by the suite: suites share results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

from videopure.evaluation.attacks.adaptive import unbounded
from videopure.evaluation.attacks.queries import QUERIES
from videopure.evaluation.attacks.queries import queries as queries_of
from videopure.evaluation.attacks.registry import adaptive, static
from videopure.evaluation.attacks.threat_models import CLEAN, Threat
from videopure.evaluation.defences.base import Cleaned, Defence
from videopure.evaluation.defences.filters import H264, NONE
from videopure.evaluation.defences.purifiers import (
    ALL_FRAMES,
    DDIM,
    DDPM,
    FASTER,
    FIRST,
    FORM,
    GUIDED_LOOK,
    INVERSION,
    LAST,
    MORE_STEPS,
    ONE_LOOK,
    UNGUIDED,
    VIDEOPURE,
)
from videopure.evaluation.plan import BATCH, Planned, Suite, Unit
from videopure.evaluation.store import EvaluationError

__all__ = ["SUITES", "Planned", "Suite", "SuiteName", "Unit", "as_suite", "make_suite"]

SuiteName = Literal["quick", "demo", "speed", "paper", "white-box", "worst-case", "queries", "full"]
SUITES: tuple[SuiteName, ...] = get_args(SuiteName)

# The paper's table, in its order.
PAPER = (NONE, DDPM, DDIM, INVERSION, VIDEOPURE)
ABLATIONS = (UNGUIDED, FIRST, LAST, ALL_FRAMES)
# Slower than filters, and not needed for yet another gray-box attack.
SOME = {DDIM: 20, INVERSION: 20}
MORE_DRAWS = 8
LONG = 100  # steps, for attacks that may have stopped too early
# Static attacks that are planned by name; the full suite runs every other registered one.
ASKED_FIRST = ("PGD-10", "PGD-50", "transfer", "Square-1000", "low frequency")
# Adaptive attacks that are planned by name; the full suite runs any other on VideoPure.
ADAPTIVE = (
    *("BPDA", "exact", "exact APGD", "label and suspicion"),
    *("exact APGD-CE", "exact APGD-T", "exact low frequency", "Square through the defence"),
    *("exact from 2 starts", "exact from 5 starts", "exact momentum", "exact ensemble"),
)
# Draws per gradient that a reviewer wants for randomised defences, and answers to the result.
MANY_DRAWS = 20
WORST_OF = 10
# What may be served, with any recogniser.
LINES = (NONE, ONE_LOOK, VIDEOPURE, GUIDED_LOOK)
GRAY = ("PGD-50", "flickering", "low frequency", "transfer")


def as_suite(name: str) -> SuiteName:
    """Check the name of a suite.

    Raises:
        EvaluationError: naming the allowed ones.
    """
    if name not in SUITES:
        raise EvaluationError(f"suite must be one of {', '.join(SUITES)}, got {name!r}")
    return name


def make_suite(
    name: SuiteName,
    defences: dict[str, Defence],
    *,
    clips: int | None = None,
    transfer: bool = True,
    only_threats: Sequence[str] = (),
    only_defences: Sequence[str] = (),
    queries: int = QUERIES,
    batch: int = BATCH,
) -> Suite:
    """The suite of a name for these defences.

    Args:
        name: one of `SUITES`.
        defences: defences by name; see `make_defences`.
        clips: at most this many clips for any threat.
        transfer: whether there is a second recogniser to transfer attacks from.
        only_threats: names or families of threats to keep; all when empty.
        only_defences: names of defences to keep; all when empty.
        queries: queries of the server per clip, in the suite of that name.
        batch: clips per unit of work.

    Raises:
        EvaluationError: if nothing of that name is planned.
    """
    plans: dict[SuiteName, Callable[[dict[str, Defence]], list[Planned]]] = {
        "quick": _quick,
        "demo": _demo,
        "speed": _speed,
        "paper": _paper,
        "white-box": _white_box,
        "worst-case": _worst_case,
        "queries": partial(_queries, count=queries),
        "full": _full,
    }
    plan = plans[name](defences)
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
    return Suite(name, tuple(kept), batch)


def _names(threat: Threat) -> tuple[str, str]:
    return threat.name, threat.family


def _check_names(what: str, asked: Sequence[str], known: set[str]) -> None:
    for name in asked:
        if name not in known:
            raise EvaluationError(
                f"the suite has no {what} {name!r}; it has {', '.join(sorted(known))}"
            )


def _simple(defences: dict[str, Defence]) -> tuple[str, ...]:
    """Filters and smoothing: defences without a diffusion model."""
    return tuple(n for n, d in defences.items() if isinstance(d, Cleaned) and n != NONE)


def _forms(defences: dict[str, Defence]) -> tuple[str, ...]:
    return tuple(name for name in defences if name.startswith(FORM))


def _quick(defences: dict[str, Defence]) -> list[Planned]:
    """Ten minutes on two cores with the demo's archive."""
    form = f"{FORM}fresh noise"
    shown = (NONE, *_simple(defences), DDIM, INVERSION, *ABLATIONS, VIDEOPURE, form)
    on_4 = adaptive(4, steps=10, draws=1)
    return [
        Planned(CLEAN, shown, 20),
        Planned(static(4)["PGD-10"], shown, 20),
        Planned(static(8)["PGD-10"], shown, 20),
        Planned(on_4["BPDA-10"], (VIDEOPURE,), 10),
        Planned(on_4["exact-10"], (VIDEOPURE, form), 10),
        Planned(unbounded(10), (VIDEOPURE,), 2),
    ]


def _demo(defences: dict[str, Defence], extra: dict[str, int] | None = None) -> list[Planned]:
    """The tables of docs/demo.md: attackers who do not know the purifier.

    `extra` names more defences for clean clips and PGD-10, each with its number of clips.
    """
    usual = (NONE, *_simple(defences), DDIM, INVERSION, VIDEOPURE)
    more = tuple(name for name in defences if MORE_STEPS in name)
    everyone = (*usual, *ABLATIONS, *more, DDPM, *(extra or {}))
    slow = {n: 10 if n.startswith(DDPM) else 50 for n in (*ABLATIONS, *more)}
    slow |= {DDIM: 100, INVERSION: 100, DDPM: 40, **(extra or {})}
    return [
        Planned(CLEAN, everyone, 200, slow),
        *(Planned(static(e)["PGD-10"], everyone, 200, slow) for e in (8, 4)),
        Planned(static(8)["PGD-50"], usual, 200, SOME),
        Planned(static(8)["Square-1000"], usual, 200, SOME),
        Planned(static(8)["transfer"], usual, 200, SOME),
        Planned(static(4)["PGD-50"], usual, 200, SOME),
    ]


def _speed(defences: dict[str, Defence]) -> list[Planned]:
    """The cost of fast mode and of each shortcut: the tables of docs/benchmarks.md."""
    shown = (NONE, VIDEOPURE, *(name for name in defences if name.startswith(FASTER)))
    return [
        Planned(threat, shown, 100) for threat in (CLEAN, static(8)["PGD-10"], static(4)["PGD-10"])
    ]


def _paper(defences: dict[str, Defence]) -> list[Planned]:
    """The paper's columns: clean, standard, gray-box and adaptive accuracy."""
    planned = [Planned(CLEAN, PAPER, 100)]
    for epsilon in (4, 8):
        planned.append(Planned(static(epsilon)["PGD-10"], PAPER, 100))
    for epsilon in (4, 8):
        on = adaptive(epsilon)
        planned += [Planned(on[f], PAPER[1:], 20) for f in on if f.startswith(("BPDA", "exact-"))]
    return planned


def _white_box(defences: dict[str, Defence]) -> list[Planned]:
    """An attacker who has the archive, against all that it may serve: docs/hardening.md.

    A hardened recogniser alone is the line "none" of its archive. The most informative units come
    first; `only_defences` selects one line.
    """
    drawn = (f"{FORM}fresh noise", f"{FORM}random anchor")
    long_4, long_8 = (adaptive(epsilon, steps=LONG) for epsilon in (4, 8))
    many = adaptive(4, draws=MANY_DRAWS)[f"exact-20 of {MANY_DRAWS} draws"]
    queries = adaptive(4, steps=1000)["Square through the defence-1000"]
    return [
        Planned(CLEAN, (*LINES, *drawn), 200),
        Planned(long_4[f"exact-{LONG}"], LINES, 200),
        Planned(long_8[f"exact-{LONG}"], LINES, 200),
        *(Planned(static(epsilon)[family], LINES, 200) for epsilon in (4, 8) for family in GRAY),
        *(
            Planned(long_4[family], LINES, 50)
            for family in (
                f"exact momentum-{LONG}",
                f"exact APGD-CE-{LONG}",
                f"exact APGD-T-{LONG}",
                f"exact low frequency-{LONG}",
                f"exact from 2 starts-{LONG}",
            )
        ),
        *(Planned(on[f"label and suspicion-{LONG}"], LINES[1:], 50) for on in (long_4, long_8)),
        *(Planned(adaptive(e, steps=LONG)[f"exact-{LONG}"], LINES, 100) for e in (2, 6)),
        # What must hold if the attacks are as strong as they claim.
        Planned(adaptive(4)["BPDA-20"], LINES[1:], 20),
        Planned(adaptive(4, steps=5 * LONG)[f"exact-{5 * LONG}"], LINES, 10),
        Planned(adaptive(32, steps=LONG)[f"exact-{LONG}"], LINES, 10),
        Planned(queries, LINES, 20),
        Planned(replace(many, answers=WORST_OF), drawn, 20),
        # Meant for a GPU.
        Planned(long_4[f"exact from 5 starts-{LONG}"], LINES, 50),
    ]


def _worst_case(defences: dict[str, Defence]) -> list[Planned]:
    """What is left after every attack; each white-box attack gets only what the others left."""
    every = {e: adaptive(e, steps=LONG)[f"exact ensemble-{LONG}"] for e in (4, 8)}
    return [
        Planned(CLEAN, LINES, 200),
        *(Planned(every[epsilon], LINES, 200) for epsilon in (4, 8)),
        *(Planned(static(epsilon)[family], LINES, 200) for epsilon in (4, 8) for family in GRAY),
    ]


def _queries(defences: dict[str, Defence], count: int) -> list[Planned]:
    """An attacker who queries the server, at each level of its policy."""
    lines = (VIDEOPURE, ONE_LOOK)
    asked = queries_of(4, count)
    return [Planned(CLEAN, lines, 10), *(Planned(threat, lines, 10) for threat in asked.values())]


def _full(defences: dict[str, Defence]) -> list[Planned]:
    """Everything, the most informative first, in case the run is stopped early."""
    forms, simple = _forms(defences), _simple(defences)
    # In a prototype these kept most clips.
    likely = tuple(name for name in forms if "fresh noise" in name)
    clean, at_8, at_4, *rest = _demo(defences, extra=dict.fromkeys(forms, 30))
    usual = rest[0].defences
    blind = tuple(name for name in simple if not defences[name].exact)
    others = (*(n for n in simple if n not in blind), DDIM, INVERSION)
    on_4, on_8 = adaptive(4), adaptive(8)
    short_4, short_8 = adaptive(4, steps=10, draws=1), adaptive(8, steps=10, draws=1)
    variety = tuple(family for family in static(8) if family not in ASKED_FIRST)
    added = tuple(family for family in on_4 if family.rpartition("-")[0] not in ADAPTIVE)
    long_4 = adaptive(4, steps=LONG)
    silent, asked_more = "label and suspicion-10", (f"{FORM}fresh noise", f"{FORM}random anchor")
    held = (*likely, f"{FORM}random anchor")
    return [
        clean,
        at_8,
        at_4,
        *(Planned(on["exact-20"], (VIDEOPURE,), 50) for on in (on_4, on_8)),
        Planned(on_4["exact-20"], likely, 20),
        *rest,
        Planned(on_4["BPDA-20"], (VIDEOPURE,), 50),
        Planned(unbounded(), (NONE, VIDEOPURE), 10),
        Planned(short_4[silent], (VIDEOPURE,), 50),
        Planned(on_4["exact-20"], others, 20),
        Planned(on_4["BPDA-20"], blind, 20),
        Planned(on_4["exact APGD-20"], (VIDEOPURE,), 50),
        *(Planned(static(e)["PGD-10"], (NONE, H264, VIDEOPURE), 100) for e in (1, 2, 16)),
        Planned(on_4["exact-20"], tuple(n for n in forms if n not in likely), 20),
        Planned(short_4["BPDA-10"], (DDPM,), 20),
        *(Planned(static(8)[family], usual, 200, SOME) for family in variety),
        Planned(on_8["BPDA-20"], (VIDEOPURE,), 50),
        Planned(on_8["exact APGD-20"], (VIDEOPURE,), 50),
        Planned(short_8[silent], (VIDEOPURE,), 50),
        *(Planned(static(4)[family], usual, 200, SOME) for family in (*variety, "transfer")),
        Planned(on_4["exact-20"], (*ABLATIONS, DDPM), 20),
        Planned(static(4)["Square-1000"], usual, 200, SOME),
        # For randomised defences, two draws may be too few.
        Planned(adaptive(4, draws=MORE_DRAWS)[f"exact-20 of {MORE_DRAWS} draws"], asked_more, 20),
        # Clips that survive twenty steps may fall to more.
        Planned(long_4[f"exact-{LONG}"], (VIDEOPURE, *held), 50, dict.fromkeys(held, 20)),
        Planned(long_4[f"exact APGD-{LONG}"], (VIDEOPURE,), 50),
        Planned(long_4[f"label and suspicion-{LONG}"], (VIDEOPURE,), 50),
        *(Planned(on[family], (VIDEOPURE,), 50) for family in added for on in (on_4, on_8)),
    ]
