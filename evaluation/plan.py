"""The planned work, the units in which it is computed and stored, and what is still missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from videopure.evaluation.attacks.threat_models import Threat
from videopure.evaluation.store import Record, Store

__all__ = ["BATCH", "Planned", "Suite", "Unit"]

BATCH = 10


@dataclass(frozen=True)
class Planned:
    """One threat on the first `clips` clips.

    Args:
        threat: the attack.
        defences: those that answer the attacked clips; an adaptive threat attacks each separately.
        clips: how many clips.
        fewer: other counts for some defences.
    """

    threat: Threat
    defences: tuple[str, ...]
    clips: int
    fewer: dict[str, int] = field(default_factory=dict)

    def count(self, defence: str) -> int:
        """The number of clips that a defence answers."""
        return min(self.clips, self.fewer.get(defence, self.clips))


@dataclass(frozen=True)
class Unit:
    """A unit of work, computed and stored at once: one threat on one batch of clips."""

    threat: Threat
    defences: tuple[str, ...]
    start: int
    count: int

    @property
    def target(self) -> str | None:
        """The defence under attack, for threats that attack each separately."""
        return self.defences[0] if self.threat.targeted else None

    @property
    def key(self) -> str:
        """Names the unit in stored results."""
        return f"{self.threat.name}|{self.target or '*'}|{self.start}+{self.count}"


@dataclass(frozen=True)
class Suite:
    """All planned work, and its batch size."""

    name: str
    planned: tuple[Planned, ...]
    batch: int = BATCH

    @property
    def clips(self) -> int:
        """Clips that are needed."""
        return max(planned.clips for planned in self.planned)

    def holds(self, record: Record) -> bool:
        """Whether a stored answer belongs to this suite."""
        return any(
            planned.threat.name == record.threat
            and record.defence in planned.defences
            and record.clip < planned.count(record.defence)
            for planned in self.planned
        )

    def records(self, store: Store) -> list[Record]:
        """The stored answers that belong to this suite, by threat, defence and clip."""
        families = list(dict.fromkeys(p.threat.family for p in self.planned))
        defences = list(dict.fromkeys(d for p in self.planned for d in p.defences))
        return sorted(
            (record for record in store.records() if self.holds(record)),
            key=lambda r: (
                *(families.index(r.family), r.epsilon),
                *(defences.index(r.defence), r.clip),
            ),
        )

    def missing(self, records: Iterable[Record]) -> dict[str, dict[str, dict[str, int]]]:
        """By threat and defence: clips answered and clips planned, unless all are answered."""
        answered = Counter((record.threat, record.defence) for record in records)
        missing: dict[str, dict[str, dict[str, int]]] = {}
        for planned in self.planned:
            for defence in planned.defences:
                done, count = answered[planned.threat.name, defence], planned.count(defence)
                if done < count:
                    row = missing.setdefault(planned.threat.name, {})
                    row[defence] = {"answered": done, "planned": count}
        return missing

    def units(self) -> list[Unit]:
        """The work, most informative results first."""
        units = []
        for planned in self.planned:
            groups = [planned.defences]
            if planned.threat.targeted:
                groups = [(defence,) for defence in planned.defences]
            for group in groups:
                most = max(planned.count(defence) for defence in group)
                for start in range(0, most, self.batch):
                    answering = tuple(d for d in group if start < planned.count(d))
                    count = min(self.batch, most - start)
                    units.append(Unit(planned.threat, answering, start, count))
        return units
