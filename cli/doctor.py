"""`videopure doctor`: what is installed, what is wrong, and what to do about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import typer
from rich.markup import escape

from videopure.cli.options import ARCHIVE, Archive, AsJson
from videopure.cli.terminal import console, errors
from videopure.launcher.java import JavaNotFoundError, java_home
from videopure.launcher.ports import taken_address
from videopure.launcher.properties import read_properties
from videopure.wire.installing import install_hint

__all__ = ["Finding", "doctor", "examine"]

State = Literal["ok", "note", "fault"]
_MARKS = {"ok": "[green]✓[/green]", "note": "[yellow]•[/yellow]", "fault": "[red]✗[/red]"}
_ADDRESSES = (
    *("inference_address", "management_address", "metrics_address"),
    *("grpc_inference_address", "grpc_management_address"),
)
_CONFIG = Path("config.properties")
_PIP = f"{sys.executable} -m pip install"
_DEFAULT_SIZE = 6_553_500  # TorchServe's default for requests and answers
# Without these the server does not start; versions as in pyproject.toml.
_PACKAGES = ("torch", "diffusers", "torchserve", "torch-model-archiver", "pyyaml", "av")


@dataclass(frozen=True)
class Finding:
    """One thing that was checked; `remedy` says what to do if it is not `ok`."""

    subject: str
    state: State
    found: str
    remedy: str = ""


def doctor(archive: Archive = ARCHIVE, as_json: AsJson = False) -> None:
    """Check everything that serving needs; exit code 1 if something is wrong."""
    findings = []
    with errors.status("Checking"):
        for finding in examine(archive):
            findings.append(finding)
            if not as_json:
                mark = _MARKS[finding.state]
                remedy = f"\n  → {escape(finding.remedy)}" if finding.remedy else ""
                text = f"{mark} {finding.subject}: {escape(finding.found)}{remedy}"
                console.print(text, highlight=False)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    raise typer.Exit(int(any(finding.state == "fault" for finding in findings)))


def examine(archive: Path, folder: Path = Path()) -> Iterator[Finding]:
    """Check each thing in turn.

    Args:
        archive: the `.mar` or folder to be served.
        folder: where the server would be started.
    """
    looks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _packages,
        _java,
        _accelerator,
        lambda: _config(folder / _CONFIG),
        lambda: _archive(archive),
        lambda: _sizes(archive, folder / _CONFIG),
    ]
    for look in looks:
        yield from look()


def _python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] < (3, 15):
        yield Finding("Python", "ok", found)
    else:
        yield Finding("Python", "fault", found, "use Python 3.11 to 3.14")


def _packages() -> Iterator[Finding]:
    missing = [name for name in _PACKAGES if _version(name) is None]
    there = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES if name not in missing)
    if missing:
        remedy = install_hint("serve")
        yield Finding("packages", "fault", f"{', '.join(missing)} missing", remedy)
    else:
        yield Finding("packages", "ok", there)


def _java() -> Iterator[Finding]:
    try:
        yield Finding("Java", "ok", java_home() or "the machine's own")
    except JavaNotFoundError as error:
        yield Finding("Java", "fault", "none of version 17 or newer", str(error))


def _accelerator() -> Iterator[Finding]:
    if _version("torch") is None:
        return
    import torch

    if not torch.cuda.is_available():
        remedy = "for a GPU install a CUDA build of torch; on a CPU only small models are quick"
        yield Finding("GPU", "note", "none that torch can use", remedy)
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding("GPU", "ok", f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    for package in ("nvgpu", "nvidia-ml-py"):  # the latter holds the module pynvml
        if _version(package) is None:
            remedy = f"{_PIP} {package}: TorchServe measures GPUs with it"
            yield Finding("GPU metrics", "note", f"{package} missing", remedy)


def _config(path: Path) -> Iterator[Finding]:
    if not path.is_file():
        remedy = "`videopure serve` uses the packaged one; plain torchserve needs one here"
        yield Finding("config.properties", "note", "none in this folder", remedy)
        properties: dict[str, str] = {}
    else:
        properties = read_properties(path.read_text(encoding="utf-8"))
        yield Finding("config.properties", "ok", str(path))
        yield from _exposure(properties)
        metrics = properties.get("metrics_config")
        if metrics and not (path.parent / metrics).is_file():
            remedy = "copy metrics.yaml next to config.properties: without it no worker starts"
            yield Finding("metrics_config", "fault", f"{metrics} is missing", remedy)
    if taken := taken_address(properties):
        remedy = "stop the server or program that uses it, or change config.properties"
        yield Finding("ports", "note", f"something listens on {taken}", remedy)
    else:
        yield Finding("ports", "ok", "free")


def _exposure(properties: dict[str, str]) -> Iterator[Finding]:
    for name in _ADDRESSES:
        address = properties.get(name, "127.0.0.1")
        if not _is_own(address):
            remedy = "bind to 127.0.0.1 and put a proxy with TLS and authentication in front"
            yield Finding(name, "fault", f"{address} is open to other machines", remedy)
    for name, wanted in (("disable_token_authorization", "false"), ("enable_model_api", "false")):
        if properties.get(name, wanted).lower() != wanted:
            yield Finding(name, "fault", properties[name], f"set {name}={wanted}")


def _is_own(address: str) -> bool:
    """Whether an address of config.properties can be reached only from this machine."""
    if address.startswith("unix:"):
        return True
    host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, which may mean any machine, or another spelling of 0.0.0.0
        return False


def _archive(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding("archive", "fault", f"there is no {path}", "videopure build --demo")
        return
    if _version("torch") is None:
        return
    from videopure.archive import verify_archive
    from videopure.format.manifest import ManifestError
    from videopure.format.settings import SettingsError

    try:
        manifest = verify_archive(path).manifest
    except (ManifestError, SettingsError, OSError) as error:
        yield Finding("archive", "fault", f"{path}: {error}", "build it again: videopure build")
        return
    parts = f"{manifest.recogniser.name} behind {manifest.purifier.name}"
    yield Finding("archive", "ok", f"{path}: {manifest.name} {manifest.version}, {parts}")
    yield from _libraries(manifest.libraries)


def _sizes(archive: Path, config: Path) -> Iterator[Finding]:
    """Whether TorchServe's size limits admit what the archive allows."""
    if not (archive.exists() and config.is_file()) or _version("torch") is None:
        return
    from videopure.archive import inspect_archive
    from videopure.format.manifest import ManifestError
    from videopure.format.settings import ModelConfig, SettingsError

    try:
        limits = ModelConfig.parse(inspect_archive(archive).chosen).videopure.limits
    except (ManifestError, SettingsError, OSError):
        return  # reported already
    properties = read_properties(config.read_text(encoding="utf-8"))
    request, response = (
        int(properties.get(name, _DEFAULT_SIZE))
        for name in ("max_request_size", "max_response_size")
    )
    for name in ("max_evidence_bytes", "max_answer_bytes"):
        most = getattr(limits, name)
        if most < response:
            continue
        found = f"{response}, and the archive's {name} is {most}"
        remedy = f"raise it, or lower {name}: a worker that sends a larger answer dies"
        yield Finding("max_response_size", "fault", found, remedy)
    if limits.max_bytes > request:
        found = f"{request}, and the archive's max_bytes is {limits.max_bytes}"
        remedy = "raise it: TorchServe refuses larger videos with an empty 413"
        yield Finding("max_request_size", "note", found, remedy)


def _libraries(recorded: dict[str, str]) -> Iterator[Finding]:
    for name, built_with in recorded.items():
        here = _version(name)
        if here is not None and here.split("+")[0] != built_with.split("+")[0]:
            found = f"{name} {here}; the archive was built and tried with {built_with}"
            yield Finding("versions", "note", found, f"{_PIP} {name}=={built_with}")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
