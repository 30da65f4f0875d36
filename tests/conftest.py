"""What several tests share: archives, built once."""

from pathlib import Path

import pytest

from tests.support import torchvision_operators

# Before transformers is imported, which looks for a torchvision once.
TORCHVISION = torchvision_operators.allow()

from tests.parity import FIXTURE  # noqa: E402
from tests.support.models import save_recogniser  # noqa: E402
from videopure.archive import build_archive  # noqa: E402


@pytest.fixture
def torchvision() -> None:
    """Skips a test where there is no torchvision; `make test` installs one for the tests."""
    if not TORCHVISION:
        pytest.skip("there is no torchvision: see tests/support/torchvision_operators.py")


@pytest.fixture(scope="session")
def tiny_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of tiny random-weight models of the real classes."""
    folder = tmp_path_factory.mktemp("tiny")
    recogniser = save_recogniser(folder / "recogniser")
    settings = {"purification": {"inversion_steps": 2, "suspicion_threshold": 0.5}}
    return build_archive(
        recogniser, FIXTURE / "model_seed0", folder / "videopure.mar", settings=settings
    )
