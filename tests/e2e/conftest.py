"""A real TorchServe with the demo's archive, started once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from videopure.archive import build_archive
from videopure.client.api import VideoPureClient
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.motions import BUNDLE
from videopure.motions.bundle_files import BundleSettings


@pytest.fixture(scope="session", autouse=True)
def quiet_threads() -> None:
    """Threads that spin while they wait would slow the servers down."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def demo_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "videopure.mar"
    settings = BundleSettings.read().archive_settings()
    return build_archive(BUNDLE / "recogniser", BUNDLE / "pipeline", out, settings=settings)


@pytest.fixture(scope="session")
def server(demo_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    folder = tmp_path_factory.mktemp("server")
    with TorchServe(demo_archive, folder=folder, overrides=free_addresses()) as running:
        yield running


@pytest.fixture
def client(server: TorchServe) -> Iterator[VideoPureClient]:
    with server.client() as connected:
        yield connected
