"""Draws the rooms of docs/architecture.md from what the code imports.

    python docs/architecture.py

The picture (mermaid) and the table stand between `<!-- rooms -->` and `<!-- end -->`; a test fails
where they are no longer true.
"""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.imports import imported_rooms, rooms  # noqa: E402

PAGE = ROOT / "docs" / "architecture.md"
START, END = "<!-- rooms -->\n", "<!-- end -->\n"

Imports = dict[str, set[str]]


def read() -> Imports:
    """For each room, the rooms that its files import."""
    return {room: imported_rooms(room) for room in rooms()}


def levels(imports: Imports) -> list[list[str]]:
    """The rooms from the bottom up: each imports only from levels below its own.

    Raises graphlib.CycleError where rooms import each other in a ring.
    """
    sorter = TopologicalSorter(imports)
    sorter.prepare()
    found = []
    while sorter.is_active():
        level = sorted(sorter.get_ready())
        found.append(level)
        sorter.done(*level)
    return found


def below(room: str, imports: Imports) -> set[str]:
    """All rooms that a room reaches, directly or by way of others."""
    return imports[room].union(*(below(other, imports) for other in imports[room]))


def arrows(imports: Imports) -> list[tuple[str, str]]:
    """The imports that no longer way implies: as few arrows as say the same."""
    return [
        (room, target)
        for room in sorted(imports)
        for target in sorted(imports[room])
        if not any(target in below(other, imports) for other in imports[room])
    ]


def mermaid(imports: Imports) -> str:
    """The picture: a row of boxes for each level, the lowest one last."""
    lines = ["```mermaid", "flowchart TD"]
    for height, level in reversed(list(enumerate(levels(imports)))):
        lines += [f'  subgraph level{height}[" "]', "    direction LR"]
        lines += [f"    {room}[{room}/]" for room in level]
        lines += ["  end"]
    lines += [f"  {room} --> {target}" for room, target in arrows(imports)]
    return "\n".join([*lines, "```"])


def purpose(room: str) -> str:
    """The first sentence of a room's docstring."""
    source = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
    head = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
    return " ".join(head.split()).removesuffix(".")


def table(imports: Imports) -> str:
    """The rooms from the top down, what each is for, and all that it imports of ours."""
    lines = ["| room | what it is | imports |", "|---|---|---|"]
    for level in reversed(levels(imports)):
        for room in level:
            named = ", ".join(f"`{other}`" for other in sorted(imports[room]))
            lines.append(f"| `{room}/` | {purpose(room)} | {named or 'nothing of ours'} |")
    return "\n".join(lines)


def fill(page: str) -> str:
    """A page's text with the picture and the table of the code as it is now."""
    before, rest = page.split(START, 1)
    after = rest.split(END, 1)[1]
    imports = read()
    return f"{before}{START}\n{mermaid(imports)}\n\n{table(imports)}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
