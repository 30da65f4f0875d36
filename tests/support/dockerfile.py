"""A Dockerfile's instructions, and the files that its context holds."""

from __future__ import annotations

import json
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

__all__ = ["arguments", "copy_context", "instructions"]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instructions and what follows them, of all stages, in order."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.M)
    lines = text.replace("\\\n", " ").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return [(name, " ".join(rest.split())) for name, rest in pairs]


def arguments(dockerfile: Path, name: str) -> list[str]:
    """The last instruction of a name in its form of a list, such as ENTRYPOINT's."""
    found = [rest for instruction, rest in instructions(dockerfile) if instruction == name][-1]
    words: list[str] = json.loads(found[found.index("[") :])
    return words


def copy_context(root: Path, ignore: Path, target: Path) -> None:
    """Copy what a .dockerignore of the form `*`, then `!NAME`, leaves of a folder."""
    rules = [line for line in ignore.read_text("utf-8").splitlines() if line[:1] not in ("#", "")]
    assert rules[0] == "*"
    admitted = [rule[1:] for rule in rules if rule.startswith("!")]
    skipped = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]

    def skip(_: str, names: list[str]) -> set[str]:
        return {name for name in names if any(fnmatch(name, pattern) for pattern in skipped)}

    for name in admitted:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=skip)
        else:
            shutil.copyfile(source, target / name)
