"""An environment of exactly what a wheel asks for, made of the packages that are installed here."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable, Iterator
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["install"]


def install(wheel: Path, target: Path) -> set[str]:
    """Unpack a wheel and copy what it requires without any extra; returns the packages' names.

    No network is needed. Programs that run with `-S` and this folder as PYTHONPATH see nothing
    else.
    """
    with zipfile.ZipFile(wheel) as file:
        (metadata,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        wanted = Parser().parsestr(file.read(metadata).decode()).get_all("Requires-Dist", [])
        file.extractall(target)
    found: set[str] = set()
    pending = list(_needed(wanted))
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += _needed(distribution(name).requires or ())
            _copy(name, target)
    return found


def _needed(requirements: Iterable[str]) -> Iterator[str]:
    """The names of requirements that hold here without an extra."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def _copy(name: str, target: Path) -> None:
    for file in distribution(name).files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:  # no scripts
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), target / file)
