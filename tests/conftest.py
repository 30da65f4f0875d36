"""What several tests share: archives, built once."""

from pathlib import Path

import pytest

from tests.parity import FIXTURE
from tests.support.models import save_recogniser
from videopure.archive import build_archive


@pytest.fixture(scope="session")
def tiny_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of tiny random-weight models of the real classes."""
    folder = tmp_path_factory.mktemp("tiny")
    recogniser = save_recogniser(folder / "recogniser")
    settings = {"purification": {"inversion_steps": 2, "suspicion_threshold": 0.5}}
    return build_archive(
        recogniser, FIXTURE / "model_seed0", folder / "videopure.mar", settings=settings
    )
