"""docs/deploying.md lists every file of deploy/ with what exercises it, or says that none does."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.unit


def test_every_file_is_listed_with_what_exercises_it() -> None:
    table = PAGE.partition("## What is tested here")[2]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    listed: list[str] = []
    for _, files, exercised, _ in rows:
        listed += re.findall(r"`([^`]+)`", files)
        tests = re.findall(r"`(tests/[^`]+)`", exercised)
        assert tests or "not exercised here" in exercised, files
        assert all((ROOT / test).is_file() for test in tests), tests
    # What an operator puts there himself is his own.
    own = ROOT / "deploy" / "docker" / "secrets"
    there = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and own not in path.parents and "__pycache__" not in path.parts
    ]
    assert sorted(listed) == sorted(there)
