"""The notebook runs from top to bottom, and shows what it says."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOK = Path(__file__).parents[3] / "docs" / "walkthrough.ipynb"

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def sources(kind: str) -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_the_walkthrough_runs_and_shows_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells are plain Python: no Jupyter is needed."""
    matplotlib.use("Agg")
    drawn: list[Any] = []
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: drawn.append(None))
    scope: dict[str, Any] = {"__name__": "walkthrough"}
    for number, source in enumerate(sources("code")):
        exec(compile(source, f"cell {number}", "exec"), scope)
    scope["pyplot"].close("all")
    truth = scope["labels"].tolist()
    assert scope["bare"](scope["clips"]).tolist() == truth
    # The attack fools the recogniser, purification gives the labels back, ...
    assert all(a != b for a, b in zip(scope["fooled"].tolist(), truth, strict=True))
    assert scope["answered"] == truth
    # ... whoever has everything fools that, and not the hardened models at 4/255.
    assert sum(a == b for a, b in zip(scope["answered_exact"], truth, strict=True)) <= 1
    assert scope["withstood"][4] == len(truth)
    assert scope["hardened"].archive.is_file()
    assert len(drawn) == 3


def test_its_pages_exist() -> None:
    links = re.findall(r"\]\(([\w.-]+)\)", "".join(sources("markdown")))
    assert links
    assert all((NOTEBOOK.parent / link).is_file() for link in links)
