"""Rooms import one way: what each may import stands in the first lines of its `__init__`."""

import ast
import re
import subprocess
import sys

import pytest

from tests.support.imports import ROOT, imported, rooms

# From the top down: a room may import those that stand after it.
ORDER = (
    *("cli", "web", "demo", "bulk", "launcher", "training", "evaluation", "motions", "archive"),
    *("handler", "format", "purifier", "client", "wire"),
)

pytestmark = pytest.mark.unit


def allowed(init: str) -> set[str]:
    """The rooms that a docstring allows: `May import archive and wire.`"""
    text = " ".join((ast.get_docstring(ast.parse(init)) or "").split())
    found = re.search(r"May import ([a-z, ]+)[.:]", text)
    assert found is not None, f"no 'May import ...' in {text!r}"
    if found[1] == "nothing of ours":
        return set()
    return set(re.split(r", | and ", found[1]))


def forbidden(source: str, package: str, may: set[str]) -> list[tuple[int, str]]:
    """The imports of a module from rooms that its own must not know."""
    room = package.split(".")[1]
    return [
        (line, name)
        for line, name in imported(source, package)
        if name.split(".")[0] in ("benchmarks", "tests")
        or (name.startswith("videopure.") and name.split(".")[1] not in {room, *may})
    ]


def test_every_room_has_its_place_in_the_order() -> None:
    assert rooms() == sorted(ORDER)


@pytest.mark.parametrize("room", ORDER)
def test_a_room_allows_only_what_stands_below_it(room: str) -> None:
    may = allowed((ROOT / room / "__init__.py").read_text(encoding="utf-8"))
    assert may <= set(ORDER[ORDER.index(room) + 1 :])
    if room in ("launcher", "client"):  # they run where there is no torch
        assert may <= {"client", "wire"}


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_what_its_first_lines_allow(room: str) -> None:
    may = allowed((ROOT / room / "__init__.py").read_text(encoding="utf-8"))
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for line, name in forbidden(
            path.read_text(encoding="utf-8"),
            ".".join(["videopure", *path.relative_to(ROOT).parts[:-1]]),
            may,
        )
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "import videopure.cli.main",
        "from videopure import cli",
        "from videopure.cli import main as start",
        "from ..cli import main",
        "def late():\n    import videopure.cli",
        "if TYPE_CHECKING:\n    from videopure.cli.options import Archive",
        "from tests.support import models",
    ],
)
def test_every_way_to_import_is_seen(line: str) -> None:
    assert len(forbidden(line, "videopure.demo", {"wire"})) == 1
    assert forbidden("import videopure.wire.schemas, os", "videopure.demo", {"wire"}) == []
    assert forbidden("from .show import run", "videopure.demo", {"wire"}) == []


def test_the_client_needs_requests_and_pydantic_alone() -> None:
    heavy = ("av", "cv2", "diffusers", "numpy", "safetensors", "torch", "transformers", "yaml")
    others = tuple(f"videopure.{room}" for room in ORDER if room not in ("client", "wire"))
    program = f"""
import sys

for name in {heavy + others!r}:
    sys.modules[name] = None  # importing it fails
from videopure.client import Evidence, VideoPureClient

print(VideoPureClient("http://127.0.0.1:1"))
try:
    Evidence.parse(b"")
except ImportError as error:
    print(error.name)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "VideoPureClient('http://127.0.0.1:1', model='videopure')",
        "av",
    ]
