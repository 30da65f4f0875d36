"""`videopure predict` apart from the server it asks."""

from pathlib import Path

import pytest

from videopure.cli.predict import _print, evidence_names
from videopure.wire.schemas import Answer

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


def test_warnings_stand_under_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer.model_validate(
        {
            "request_id": "one",
            "model": {"name": "v", "version": "1", "recogniser": "r", "purifier": "p"},
            "predictions": [{"label": "wave", "label_id": 0, "score": 0.9}],
            "votes": None,
            "undefended": None,
            "suspicion": None,
            "clips": [
                {
                    "label": "wave",
                    "label_id": 0,
                    "score": 0.9,
                    "suspicion": None,
                    "frame_indices": [0],
                }
            ],
            "video": {
                "frames": 1,
                "fps": None,
                "duration_s": None,
                "width": 8,
                "height": 8,
                "frame_indices": [0],
            },
            "warnings": ["[odd] the clip is unlike those that the purifier knows"],
            "timing_ms": {"total": 1.0},
        }
    )
    _print(iter([(Path("a.mp4"), answer)]), as_json=False, as_csv=False)
    shown = capsys.readouterr()
    assert "wave 0.90" in shown.out
    assert "Warning: a.mp4: [odd] the clip is unlike those" in shown.err
