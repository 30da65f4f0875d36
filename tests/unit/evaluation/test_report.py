"""The report of a small store: every section and number is there, nothing is from outside."""

import base64
import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.support.defences import DEFENCES
from tests.support.records import LIMITS, answers
from tests.support.records import RECORDS as SUMMARISED
from videopure.evaluation.report.examples import Example, save_example
from videopure.evaluation.report.figures import overview
from videopure.evaluation.report.headline import headline
from videopure.evaluation.report.html import SECTIONS, check_tools, write_report
from videopure.evaluation.report.output import write_tables
from videopure.evaluation.report.summary import summarise
from videopure.evaluation.report.tables import make_tables
from videopure.evaluation.store import EvaluationError, Store
from videopure.evaluation.suites import make_suite

pytestmark = pytest.mark.unit

HOSTILE = "<script>alert('$x_1$')</script>"
LABELS = ["wave", "jump & run", HOSTILE]
FIDELITY = {"psnr": 30.5, "ssim": 0.9, "warping_error_before": 0.02, "warping_error_after": 0.01}
RECORDS = [replace(r, fidelity=FIDELITY if r.fidelity else None) for r in SUMMARISED]
VOID = {"meta", "link", "img", "br", "input", "hr", "base", "source", "track", "embed"}


class Page(HTMLParser):
    """Tags with their attributes, all text, and whether every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    store = Store(folder, {"archive": "abc", "seed": 7, "data": f"of {HOSTILE}"})
    store.add("unit", RECORDS)
    frames = torch.rand(3, 6, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    for label in (1, 2):
        save_example(store, Example("PGD-10 4/255", 3, 1, 0, label, frames))
    save_example(store, Example("of another suite 4/255", 3, 1, 0, 1, frames))
    suite = make_suite("full", DEFENCES)
    summary = write_tables(store, suite, LABELS, LIMITS)
    assert write_report(store, summary, suite.records(store)) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text())


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def test_every_table_is_there_with_every_cell(page: Page, summary: dict[str, Any]) -> None:
    tables = {table.key: table for table in make_tables(summary)}
    wanted = {key for _, keys, _ in SECTIONS for key in keys}
    assert wanted - set(tables) == {"paper", "drawn", "queries"}
    shown = [str(attrs.get("id")) for tag, attrs in page.tags if tag == "table"]
    assert {name for name in shown if name.startswith("table-")} == {f"table-{k}" for k in tables}
    for table in tables.values():
        for cell in (table.title, *table.columns, *sum(table.rows, ())):
            assert " ".join(cell.split()) in page.texts or not cell
    assert "75.0% (30%–95%, n=4) PGD-10" in page.texts  # of VideoPure, computed by hand
    headings = {title for title, _, _ in SECTIONS} | {"Frames", "What this was made from"}
    assert headings <= set(page.texts)


def test_what_a_reader_must_know_first_stands_above_the_numbers(page: Page) -> None:
    first = page.texts.index("Summary")
    top = " ".join(page.texts[:first])
    assert "3 of 6 checks of the attacks' strength fail" in top
    assert "The suite is not finished" in top


def test_nothing_comes_from_outside_and_nothing_runs(folder: Path, page: Page) -> None:
    html = (folder / "report.html").read_text()
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base"}
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "action", "srcset", "data"):
            value = attrs.get(name) or ("#" if tag != "img" else "data:image/png;base64,")
            assert value.startswith(("#", "data:image/png;base64,"))
    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_names_are_shown_and_not_obeyed(page: Page) -> None:
    assert any(HOSTILE in text for text in page.texts)
    assert any("jump & run" in text for text in page.texts)


def test_pictures_can_be_seen(folder: Path, page: Page) -> None:
    images = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    # Overview, curves, ROC and votes, and frames of a success and of a failure.
    assert len(images) == 4 + 2
    for image in images:
        assert image is not None
        png = base64.b64decode(image.partition(",")[2])
        pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        assert pixels.std() > 5
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {"overview.png", "curves.png", "roc.png", "votes.png"}


def test_links_lead_somewhere(page: Page) -> None:
    names = {attrs.get("id") for _, attrs in page.tags}
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert len(links) >= len(SECTIONS)
    assert all(link is not None and link[1:] in names for link in links)


def test_a_report_without_adaptive_attacks_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path, {})
    store.add("unit", [record for record in RECORDS if record.knowledge != "adaptive"])
    suite = make_suite("full", DEFENCES)
    summary = write_tables(store, suite, LABELS, {})
    text = write_report(store, summary, suite.records(store)).read_text()
    assert "No attack here knows the defence" in text


def test_an_empty_store_makes_a_report_too(tmp_path: Path) -> None:
    store, suite = Store(tmp_path, {}), make_suite("quick", DEFENCES)
    summary = write_tables(store, suite, LABELS, LIMITS)
    page = Page(write_report(store, summary, []).read_text())
    assert [a["id"] for tag, a in page.tags if tag == "table"] == ["table-missing"]


def test_the_verdict_and_what_was_evaluated_stand_on_top(tmp_path: Path) -> None:
    store = Store(tmp_path, {})
    store.add("unit", RECORDS)
    suite = make_suite("full", DEFENCES)
    summary = write_tables(store, suite, LABELS, LIMITS)
    about = {"digest": "0123abcd", "recogniser": HOSTILE}
    path = write_report(store, summary, suite.records(store), about=about)
    texts = Page(path.read_text()).texts
    top = texts[: texts.index("Summary")]
    assert "0123abcd" in top
    assert HOSTILE in top
    (first, cost, holds) = headline(summary, "VideoPure")
    assert top.index(first) < top.index(cost) < top.index(holds) < top.index("digest")


def test_missing_packages_are_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_tools()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EvaluationError, match=r"needs matplotlib: in .*'\.\[evaluate\]'"):
        check_tools()


@pytest.mark.parametrize("family", ["Square-1000 by scores", "Square-1000"])
def test_an_overview_of_one_attack_alone_is_drawn(family: str) -> None:
    """Whether or not the chart has a mark for it: a legend of nothing is a warning."""
    knowledge = "queries" if "by" in family else "black-box"
    summary = summarise(answers("one look", f"{family} 4/255", "101", knowledge=knowledge), {})
    drawn = overview(summary)
    assert drawn is not None
    assert drawn.startswith(b"\x89PNG")
