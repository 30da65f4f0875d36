"""The units of deploy/systemd: systemd reads them, and their commands are ours."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from videopure.cli.main import app

SYSTEMD = Path(__file__).parents[3] / "deploy" / "systemd"
UNITS = sorted(SYSTEMD.glob("videopure*.*"))

pytestmark = pytest.mark.unit


def verify(folder: Path) -> str:
    """What `systemd-analyze verify` complains of in a folder's units."""
    units = [str(unit) for unit in sorted(folder.iterdir())]
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout + run.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that is there in the place of the installed one."""
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        text = text.replace("/opt/videopure/bin/videopure", sys.executable)
        (tmp_path / unit.name).write_text(text.replace("/usr/bin/systemctl", sys.executable))
    return tmp_path


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
def test_systemd_has_nothing_to_say_of_the_units(units: Path) -> None:
    assert verify(units) == ""
    service = units / "videopure.service"
    service.write_text(service.read_text().replace("KillMode=mixed", "KillMode=gently"))
    assert "gently" in verify(units)


def lines(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit, encoding="utf-8")
    return parser


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"])
def test_commands_exist_with_their_options(unit: Path) -> None:
    program, name, *rest = shlex.split(lines(unit)["Service"]["ExecStart"])
    assert program == "/opt/videopure/bin/videopure"
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = command.context_class(command, info_name=name)
    _, left, _ = command.make_parser(context).parse_args(rest)
    assert left == []


def test_keys_are_renewed_before_they_expire() -> None:
    properties = (SYSTEMD.parents[1] / "config.properties").read_text(encoding="utf-8")
    (minutes,) = re.findall(r"^token_expiration_min=(\d+)", properties, re.M)
    timer = lines(SYSTEMD / "videopure-key.timer")["Timer"]
    assert 2 * int(timer["OnUnitActiveSec"].removesuffix("min")) < int(minutes)
    command = lines(SYSTEMD / "videopure-key.service")["Service"]["ExecStart"]
    proxy = (SYSTEMD.parent / "proxy" / "videopure.conf").read_text(encoding="utf-8")
    (included,) = re.findall(r"include (/run/\S+);", proxy)
    assert re.search(included.replace("*", r"\S*"), command)
