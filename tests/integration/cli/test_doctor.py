"""`videopure doctor`: each fault is found, and has a remedy."""

import json
import shutil
import socket
from pathlib import Path
from zipfile import ZipFile

import pytest
from typer.testing import CliRunner

from videopure.cli.doctor import Finding, examine
from videopure.cli.main import app
from videopure.launcher.ports import free_addresses

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a server could be started, on ports of its own."""
    addresses = free_addresses()
    shipped = (ROOT / "config.properties").read_text().splitlines()
    kept = [line for line in shipped if line.split("=")[0] not in addresses]
    lines = [*kept, *(f"{key}={value}" for key, value in addresses.items())]
    (tmp_path / "config.properties").write_text("\n".join(lines) + "\n")
    shutil.copyfile(ROOT / "metrics.yaml", tmp_path / "metrics.yaml")
    return tmp_path


def faults(archive: Path, folder: Path) -> list[Finding]:
    return [finding for finding in examine(archive, folder) if finding.state == "fault"]


def change(folder: Path, name: str, value: str) -> None:
    path = folder / "config.properties"
    kept = [line for line in path.read_text().splitlines() if line.split("=")[0] != name]
    path.write_text("\n".join([*kept, f"{name}={value}"]) + "\n")


def test_a_machine_that_can_serve_has_no_fault(tiny_archive: Path, folder: Path) -> None:
    findings = list(examine(tiny_archive, folder))
    assert [finding for finding in findings if finding.state == "fault"] == []
    subjects = {finding.subject for finding in findings if finding.state == "ok"}
    assert {"Python", "packages", "Java", "config.properties", "ports", "archive"} <= subjects
    assert all(finding.remedy for finding in findings if finding.state != "ok")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("inference_address", "http://0.0.0.0:8080", "open to other machines"),
        ("disable_token_authorization", "true", "true"),
        ("enable_model_api", "true", "true"),
        ("metrics_config", "nowhere.yaml", "nowhere.yaml is missing"),
        ("max_response_size", "6553500", "max_evidence_bytes is 33554432"),
    ],
)
def test_a_dangerous_configuration_is_a_fault(
    tiny_archive: Path, folder: Path, name: str, value: str, words: str
) -> None:
    change(folder, name, value)
    (fault,) = faults(tiny_archive, folder)
    assert fault.subject == name
    assert words in fault.found
    assert fault.remedy


def test_videos_that_the_archive_allows_and_torchserve_does_not_are_noticed(
    tiny_archive: Path, folder: Path
) -> None:
    change(folder, "max_request_size", "1000000")
    (finding,) = (f for f in examine(tiny_archive, folder) if f.subject == "max_request_size")
    assert finding.state == "note"
    assert "max_bytes is 67108864" in finding.found


def test_a_taken_port_is_noticed(tiny_archive: Path, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        change(folder, "inference_address", f"http://127.0.0.1:{port}")
        (finding,) = (f for f in examine(tiny_archive, folder) if f.subject == "ports")
    assert finding.state == "note"
    assert str(port) in finding.found


def test_a_changed_archive_is_a_fault(tiny_archive: Path, folder: Path) -> None:
    changed = folder / "changed.mar"
    with ZipFile(tiny_archive) as source, ZipFile(changed, "w") as target:
        for info in source.infolist():
            data = source.read(info)
            target.writestr(info, data + b" " if info.filename.endswith("e/config.json") else data)
    (fault,) = faults(changed, folder)
    assert fault.subject == "archive"
    assert "has changed since the archive was built" in fault.found


def test_no_archive_is_a_fault_and_scripts_see_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--json", "--archive", str(tmp_path / "no.mar")])
    assert result.exit_code == 1
    (fault,) = (f for f in json.loads(result.stdout) if f["state"] == "fault")
    assert fault["remedy"] == "videopure build --demo"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc_inference_address", "0.0.0.0"),
        ("grpc_management_address", "::"),
        ("management_address", "http://[::]:8081"),
        ("management_address", "http://0:8081"),
        ("metrics_address", "http://127.0.0.1.example.org:8082"),
        ("inference_address", "http://10.0.0.1:8080/?127.0.0.1"),
    ],
)
def test_every_spelling_of_an_open_address_is_found(
    tiny_archive: Path, folder: Path, name: str, value: str
) -> None:
    change(folder, name, value)
    assert name in {finding.subject for finding in faults(tiny_archive, folder)}


def test_an_open_address_is_found_however_java_writes_it(tiny_archive: Path, folder: Path) -> None:
    with (folder / "config.properties").open("a") as file:
        file.write("metrics_address : http://0.0.0.0:8082\n")
    assert "metrics_address" in {finding.subject for finding in faults(tiny_archive, folder)}


@pytest.mark.parametrize("value", ["http://127.0.0.2:8081", "http://[::1]:8081", "unix:/tmp/ts"])
def test_an_address_of_this_machine_alone_is_no_fault(
    tiny_archive: Path, folder: Path, value: str
) -> None:
    change(folder, "management_address", value)
    assert "management_address" not in {f.subject for f in faults(tiny_archive, folder)}
