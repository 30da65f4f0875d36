"""Wide tables cut down to fit a laptop: one attack per row, few defences side by side."""

from __future__ import annotations

from collections.abc import Sequence

from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.report.tables import Table

__all__ = ["WIDEST", "compact"]

WIDEST = 6  # columns of a table that is shown unchanged
_DEFENCES = 4
_DECIDES = "knows everything"


def compact(table: Table, served: str) -> Table | None:
    """The transposed table: what the archive serves first, then the recogniser alone, then others.

    Args:
        table: a table with one defence per row.
        served: the row that the archive serves.

    Returns:
        The defences with the most filled cells, at most `_DEFENCES`; None if the table itself is
        narrow enough.
    """
    if len(table.columns) <= WIDEST:
        return None
    kept = sorted(table.rows, key=lambda row: (row[0] != served, row[0] != NONE, -_filled(row)))
    kept = kept[:_DEFENCES]
    head, *names = table.columns
    rows = [(name, *(row[place] for row in kept)) for place, name in enumerate(names, 1)]
    rows.sort(key=lambda row: _DECIDES not in row[0])
    return Table(
        f"short-{table.key}",
        table.title,
        ("attack" if head == "defence" else head, *(row[0] for row in kept)),
        tuple(row for row in rows if any(row[1:])),
        table.note,
    )


def _filled(row: Sequence[str]) -> int:
    return sum(map(bool, row))
