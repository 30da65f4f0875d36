"""The documents: their links, their commands, and the output that they show."""

import io
import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
import yaml
from rich.console import Console

from tests.support.documented import REASONS, RUN, where
from videopure.cli.answers import print_table
from videopure.cli.main import app
from videopure.wire.schemas import Answer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path for folder in (".", "docs", "motions/bundle") for path in (ROOT / folder).glob("*.md")
)
# Programs whose options are not ours to check.
OTHERS = {
    *("cat", "cp", "curl", "docker", "install", "kubectl", "mkdir", "openssl", "pip", "printf"),
    *("systemctl", "tar", "useradd"),
}

pytestmark = pytest.mark.unit


def prose(page: Path) -> str:
    """A page without its blocks of code and its comments."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+?)\s*$", prose(page), re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def broken(page: Path) -> list[str]:
    """The links of a page to files and headings that do not exist."""
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    found = []
    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_and_anchors_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# One `two`: three-4\n```\n# not this\n```\n")
    page = tmp_path / "a.md"
    page.write_text("[x](b.md#one-two-three-4) [y](b.md#not-this) [z](c.md) [w](#nowhere)")
    assert broken(page) == ["b.md#not-this", "c.md", "#nowhere"]


def commands() -> list[str]:
    """Every command of every page, once."""
    seen: set[str] = set()
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            seen.update(line[2:] for line in block.splitlines() if line.startswith("$ "))
    return sorted(seen)


def check(words: list[str]) -> None:
    """Raise an error for a command whose program, target, file or option does not exist."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if not words:
        return
    program, *rest = words
    program = program.rpartition("/")[2]
    if program == "videopure":
        check_videopure(rest)
    elif program == "torchrun":
        check(rest[rest.index("--nproc_per_node") + 2 :])
    elif program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
        wanted = {word for word in rest if "=" not in word}
        assert wanted <= targets, f"no target {wanted - targets}"
    elif program == "torchserve":
        known = (Path(find_spec("ts").origin).parent / "arg_parser.py").read_text("utf-8")
        for option in (word for word in rest if word.startswith("--")):
            assert f'"{option}"' in known, f"no option {option}"
    elif program in ("python", "python3", "pytest"):
        check_python(rest)
    else:
        assert program in OTHERS, f"what is {program}?"


def check_python(words: list[str]) -> None:
    if words[:1] == ["-m"]:
        module = words[1].removeprefix("videopure.").replace(".", "/")
        places = (ROOT / f"{module}.py", ROOT / module / "__main__.py")
        assert words[1] in ("pip", "venv") or any(place.is_file() for place in places), words[1]
    for word in words:
        if word.endswith(".py"):
            assert (ROOT / word).is_file(), f"no file {word}"


def check_videopure(words: list[str]) -> None:
    group = typer.main.get_command(app)
    name, *rest = words
    command = group.commands[name]  # type: ignore[attr-defined]
    context = command.context_class(command, info_name=name)
    left = command.make_parser(context).parse_args(rest)[1]
    assert [word for word in left if word != "..."] == []


@pytest.mark.parametrize("command", commands())
def test_commands_exist_with_their_options(command: str) -> None:
    if inner := re.fullmatch(r"[A-Z_]+=\$\((.*)\)", command):
        command = inner[1]
    for part in command.split(" && "):
        check(shlex.split(part, comments=True))


def test_the_example_workflow_runs_commands_that_exist() -> None:
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"<!-- an example workflow -->\n\n```yaml\n(.*?)```", page, re.DOTALL)
    (job,) = yaml.safe_load(text)["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert len(runs) == 2
    for command in runs:
        check(shlex.split(command))


@pytest.mark.parametrize("command", commands())
def test_commands_are_run_by_a_test_or_say_why_not(command: str) -> None:
    """What runs them where is a list by hand: tests/support/documented.py."""
    place = where(command)
    assert place is not None, "add a line to tests/support/documented.py"
    assert place in REASONS or (ROOT / place).exists()


def test_the_list_of_what_runs_commands_has_no_idle_lines() -> None:
    every = commands()
    assert [pattern for pattern, _ in RUN if not any(re.search(pattern, c) for c in every)] == []


@pytest.mark.parametrize(
    "command",
    [
        "videopure predict a.mp4 --purged", "videopure preach", "make tee", "pytest tests/no.py",
        "python -m videopure.nowhere", "torchserve --begin", "pipp install x",
        "videopure verify a.mar b.mar",
    ],
)  # fmt: skip
def test_commands_that_do_not_exist_are_found(command: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        check(shlex.split(command))


@pytest.mark.parametrize("page", ["README.md", "docs/serving.md"])
def test_the_output_of_predict_is_what_is_printed(page: str) -> None:
    """The answers are those of `videopure predict demo/sample_clips --json`."""
    stored = []
    for line in (DOCS / "samples" / "predict.jsonl").read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        stored.append((Path(content.pop("file")), Answer.model_validate(content)))
    out = io.StringIO()
    print_table(stored, Console(file=out, width=80))
    printed = "\n".join(line.rstrip() for line in out.getvalue().splitlines())
    (shown,) = re.findall(
        r"<!-- printed by predict -->\n\n```text\n(.*?)```", (ROOT / page).read_text("utf-8"), re.S
    )
    assert printed.startswith(shown)


def test_the_proxys_file_is_the_one_that_is_tested() -> None:
    page = (DOCS / "production.md").read_text("utf-8")
    (shown,) = re.findall(r"<!-- deploy/proxy/videopure.conf -->\n\n```nginx\n(.*?)```", page, re.S)
    assert shown == (ROOT / "deploy/proxy/videopure.conf").read_text("utf-8")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_the_site_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text.split("\nplugins:")[0])["nav"]
    named = set(re.findall(r"[\w-]+\.md", str(nav)))
    assert named >= {page.name for page in DOCS.glob("*.md")}
