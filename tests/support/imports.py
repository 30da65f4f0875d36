"""Which rooms there are, and what the files of each import: for tests and docs/architecture.py.

Rooms are the packages directly below `videopure`. Nothing of ours is imported to find out.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rooms() -> list[str]:
    """The packages at the top level, sorted, but for those that are not of the distribution."""
    found = {init.parent.name for init in ROOT.glob("*/__init__.py")}
    return sorted(found - {"benchmarks", "tests"})


def imported(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, wherever it stands: in functions as well.

    Args:
        source: of a module.
        package: that it lies in, for relative imports.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def imported_rooms(room: str) -> set[str]:
    """The other rooms that the files of a room import."""
    names = {
        name
        for path in (ROOT / room).rglob("*.py")
        for _, name in imported(
            path.read_text(encoding="utf-8"),
            ".".join(["videopure", *path.relative_to(ROOT).parts[:-1]]),
        )
    }
    ours = {name.split(".")[1] for name in names if name.startswith("videopure.")}
    return ours - {room}
