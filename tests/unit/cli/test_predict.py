"""`videopure predict` apart from the server it asks."""

from pathlib import Path

import pytest

from videopure.cli.predict import evidence_names

pytestmark = pytest.mark.unit


def test_no_evidence_is_written_over_another() -> None:
    files = [Path(name) for name in ("a/x.mp4", "b/x.mov", "c/x-2.mp4", "d/X.mp4", "e/y.mp4")]
    names = evidence_names(files)
    assert len({name.lower() for name in names}) == len(files)
    assert names == [
        "x-purified.mp4",
        "x-2-purified.mp4",
        "x-2-2-purified.mp4",
        "X-3-purified.mp4",
        "y-purified.mp4",
    ]
