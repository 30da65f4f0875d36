"""All defences by name; see docs/evaluation.md for how to add one."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from videopure.evaluation.defences.base import Defence
from videopure.purifier.defended import DefendedRecogniser

__all__ = ["FILES", "make_defences"]

# Files of this folder, each with its `defences`. A new one adds a line here; tables keep the order.
FILES = (
    "filters",
    "purifiers",
)


def make_defences(defended: DefendedRecogniser) -> dict[str, Defence]:
    """All defences around one archive's recogniser and purifier, in the order of the table.

    Raises:
        ValueError: if two have the same name.
    """
    made: dict[str, Defence] = {}
    for file in FILES:
        defences: Iterable[Defence] = import_module(f"{__package__}.{file}").defences(defended)
        for defence in defences:
            if defence.name in made:
                raise ValueError(f"{file}.py: there is a defence named {defence.name!r} already")
            made[defence.name] = defence
    return made
