"""The answers of an evaluation by defence and threat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from videopure.evaluation.store import Record

__all__ = ["Cells"]


class Cells:
    """Records by defence and threat, each with a record for every clip."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._cells: dict[tuple[str, str], dict[int, Record]] = {}
        self.threats: dict[str, Record] = {}  # one record of each, for family and budget
        self.defences: list[str] = []
        for record in records:
            self._cells.setdefault((record.defence, record.threat), {})[record.clip] = record
            self.threats.setdefault(record.threat, record)
            if record.defence not in self.defences:
                self.defences.append(record.defence)

    def get(self, defence: str, threat: str) -> dict[int, Record]:
        """Clip -> record; empty if this was not evaluated."""
        return self._cells.get((defence, threat), {})

    def right(self, defence: str, threat: str, clips: Iterable[int] | None = None) -> list[bool]:
        """Whether each clip was answered correctly, in the order of the clips."""
        cell = self.get(defence, threat)
        return [cell[clip].right for clip in (sorted(cell) if clips is None else clips)]

    def of(self, defence: str, **wanted: Any) -> list[str]:
        """Threats that were run on a defence, with these values of their fields."""
        return [
            name
            for name, record in self.threats.items()
            if self.get(defence, name)
            and all(getattr(record, field) == value for field, value in wanted.items())
        ]

    def common(self, *cells: tuple[str, str]) -> list[int]:
        """Clips that all of these (defence, threat) have answered."""
        clips = [set(self.get(*cell)) for cell in cells]
        return sorted(set.intersection(*clips)) if clips else []
