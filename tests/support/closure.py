"""An environment of exactly what a wheel asks for, made of the packages that are installed here."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from constraints.closure import closure

__all__ = ["install"]


def install(
    wheel: Path, target: Path, extras: Iterable[str] = (), *, link: bool = False
) -> set[str]:
    """Unpack a wheel and add what it requires; returns the packages' names.

    No network is needed. Programs that run with `-S` and this folder as PYTHONPATH see nothing
    else.

    Args:
        extras: of the wheel.
        link: hard links where they can be made, instead of copies: torch is large.
    """
    with zipfile.ZipFile(wheel) as file:
        (metadata,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        told = Parser().parsestr(file.read(metadata).decode()).get_all("Requires-Dist", [])
        file.extractall(target)
    names = closure(_of_extras([Requirement(text) for text in told], set(extras)))
    for name in names:
        _add(name, target, link)
    return set(names)


def _of_extras(told: list[Requirement], extras: set[str]) -> list[str]:
    """The requirements of some extras; those that name ours stand for more."""
    chosen: list[str] = []
    pending, seen = ["", *extras], set[str]()
    while pending:
        extra = pending.pop()
        seen.add(extra)
        for one in told:
            if one.marker is not None and not one.marker.evaluate({"extra": extra}):
                continue
            if one.name == "videopure":
                pending += one.extras - seen
            else:
                chosen.append(str(one).partition(";")[0])
    return chosen


def _add(name: str, target: Path, link: bool) -> None:
    for file in distribution(name).files or ():
        if ".." in file.parts or "__pycache__" in file.parts:  # no scripts
            continue
        source = str(file.locate())
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        try:
            (os.link if link else shutil.copyfile)(source, target / file)
        except OSError:  # another file system
            shutil.copyfile(source, target / file)
