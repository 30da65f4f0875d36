"""Writes constraints/lowest.txt: the lowest version that pyproject.toml allows of every package.

    python constraints/lowest.py

torch and torchvision are left out: their builds are chosen by `make TORCH=... TORCHVISION=...`.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOWEST = ROOT / "constraints" / "lowest.txt"
CHOSEN_ELSEWHERE = {"torch", "torchvision", "videopure"}
HEAD = "# Written by `python constraints/lowest.py`; `make test-lowest` uses it.\n"


def requirements(pyproject: str) -> Iterator[Requirement]:
    """Every requirement of a pyproject.toml's text, those of all extras included."""
    project = tomllib.loads(pyproject)["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return (Requirement(text) for texts in lists for text in texts)


def floor(requirement: Requirement) -> str:
    """The version specifier that admits the lowest allowed version alone.

    Raises ValueError for a requirement that has no lower bound.
    """
    for specifier in requirement.specifier:
        if specifier.operator in (">=", "=="):
            return f"{requirement.name}=={specifier.version}"
    raise ValueError(f"pyproject.toml: {requirement} has no lower bound")


def lowest(pyproject: str) -> str:
    """The text of the constraints file for a pyproject.toml's text."""
    chosen = (wanted for wanted in requirements(pyproject) if wanted.name not in CHOSEN_ELSEWHERE)
    return HEAD + "".join(f"{line}\n" for line in sorted({floor(each) for each in chosen}))


if __name__ == "__main__":
    LOWEST.write_text(lowest((ROOT / "pyproject.toml").read_text()))
