"""The demo's table and picture."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from videopure.demo.drawing import HEADINGS, Shown, picture, table
from videopure.wire.schemas import Answer

LONGEST = ["oscillates", "turns right", "moves right"]


def answer(label: str) -> Answer:
    prediction = {"label": label, "label_id": 0, "score": 1.0}
    video = {"frames": 1, "fps": 8, "duration_s": 1, "width": 8, "height": 8, "frame_indices": [0]}
    return Answer.model_validate(
        {
            "request_id": "1",
            "model": {"name": "m", "version": "1", "recogniser": "r", "purifier": "p"},
            "predictions": [prediction],
            "votes": None,
            "undefended": None,
            "suspicion": {"score": 0.25, "adversarial": True},
            "clips": [{**prediction, "suspicion": 0.25, "frame_indices": [0]}],
            "video": video,
            "warnings": [],
            "timing_ms": {},
        }
    )


@pytest.fixture
def shown() -> list[Shown]:
    rows = []
    for kind, label in zip(("clean", "gray-box", "white-box"), LONGEST, strict=True):
        labels = dict.fromkeys(("alone", "published"), label)
        clips = dict.fromkeys(HEADINGS, torch.rand(4, 3, 8, 8))
        rows.append(Shown(0, kind, "moves right", clips, labels, (answer("grows"), 1234.5)))
    return rows


def test_the_table_fits_80_columns_and_marks_what_is_right(shown: list[Shown]) -> None:
    console = Console(width=80, record=True, no_color=True)
    console.print(table(shown))
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.count("✓ moves right") == 2
    assert text.count("✗ turns right") == 2
    assert text.count("✗ grows") == 3
    assert text.count("0.25 !") == 3
    assert "…" not in text


def test_the_picture_has_a_strip_for_each_attacker_and_the_purified_clip(
    shown: list[Shown], tmp_path: Path
) -> None:
    with Image.open(picture(shown, torch.rand(4, 3, 8, 8), tmp_path / "p.png")) as drawn:
        assert drawn.size == (990, 748)  # inches of the figure at 110 dots


def test_a_line_that_was_not_asked_is_no_answer() -> None:
    with pytest.raises(RuntimeError, match="clip 3, clean"):
        _ = Shown(3, "clean", "grows").answer
