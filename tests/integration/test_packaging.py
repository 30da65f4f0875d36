"""The wheel, and the wheel through an sdist, hold everything and import from anywhere."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.closure import install

ROOT = Path(__file__).parents[2]
# Every room: a folder with an __init__.py at the root that is no test and no benchmark.
PACKAGES = sorted(
    path.parent.name
    for path in ROOT.glob("*/__init__.py")
    if path.parent.name not in ("tests", "benchmarks")
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is under version control, so that building leaves nothing in the tree."""
    copy = tmp_path_factory.mktemp("source")
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in files:
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    return copy


def build(source: Path, out: Path, *kinds: str) -> Path:
    """The one file that `python -m build` makes, without isolation: no network is needed."""
    command = [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", out, source]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module", params=["wheel", "wheel-through-sdist"])
def wheel(
    request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("dist")
    if request.param == "wheel":
        return build(source, out, "--wheel")
    unpacked = tmp_path_factory.mktemp("unpacked")
    sdist = build(source, out, "--sdist")
    subprocess.run(["tar", "-xzf", sdist, "-C", unpacked], check=True)
    (inner,) = unpacked.iterdir()
    return build(inner, tmp_path_factory.mktemp("dist"), "--wheel")


def test_wheel_holds_every_source_and_weight(wheel: Path, source: Path) -> None:
    packaged = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"videopure/{file.relative_to(source)}"
        for package in PACKAGES
        for file in (source / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert wanted - packaged == set()


def test_wheel_imports_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    program = (
        f"import {', '.join(f'videopure.{package}' for package in PACKAGES)}, videopure.cli.main\n"
        "print(videopure.purifier.__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == str(site / "videopure" / "purifier" / "__init__.py")


def test_the_base_install_is_the_client_and_its_commands(wheel: Path, tmp_path: Path) -> None:
    """What the wheel requires without an extra suffices for them, and is light."""
    site = tmp_path / "site"
    names = install(wheel, site)
    assert {"httpx", "pydantic", "rich", "typer"} <= names
    assert not names & {"av", "diffusers", "numpy", "opencv-python-headless", "torch", "requests"}
    program = (
        "from videopure.cli.main import main\n"
        "from videopure.client import AsyncVideoPureClient, VideoPureClient\n"
        "main()"
    )
    for command in ("status", "describe", "workers"):
        run = subprocess.run(
            [sys.executable, "-S", "-c", program, command],
            cwd=tmp_path,
            env={"PYTHONPATH": str(site), "VIDEOPURE_MANAGEMENT_URL": "http://127.0.0.1:1"},
            check=False,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 1
        assert "Error: no server answers at http://127.0.0.1:1/" in run.stderr, run.stderr
    size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
    ours = sum(file.stat().st_size for file in (site / "videopure").rglob("*") if file.is_file())
    assert size - ours < 40e6
