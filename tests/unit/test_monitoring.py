"""Dashboard and alert rules: they ask for metrics that there are, and the pages name them all."""

import json
import shutil
import subprocess
from itertools import combinations

import pytest

from tests.support.monitoring import (
    ALERTS,
    DASHBOARD,
    ROOT,
    alerts,
    panels,
    selected,
    shown_metrics,
)

pytestmark = pytest.mark.unit

QUERIES = {**{name: [query] for name, query in alerts().items()}, **panels()}


@pytest.mark.parametrize("name", QUERIES)
def test_queries_read_metrics_and_labels_that_a_server_shows(name: str) -> None:
    shown = shown_metrics()
    assert QUERIES[name]
    for query in QUERIES[name]:
        read = selected(query)
        assert read
        assert read.keys() <= shown.keys()
        for metric, labels in read.items():
            assert labels <= shown[metric], metric


def test_what_a_query_reads_is_found() -> None:
    query = (
        'histogram_quantile(0.95, sum by (le, Z) (rate(A_bucket{Stage!="x", le=~"1|b"}[5m])))'
        ' / 1e6 > 0.5 * max by (instance) (B) and c offset 1h or sum(increase(d{e="f{g"}[1h])) > 30'
    )
    assert selected(query) == {"A_bucket": {"Stage", "le"}, "B": set(), "c": set(), "d": {"e"}}


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for place in places:
        assert place["x"] + place["w"] <= 24
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above


def test_the_page_says_what_every_alert_means() -> None:
    page = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    assert [name for name in alerts() if f"`{name}`" not in page] == []


def test_promtool_accepts_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool: install Debian's package prometheus")
    for what, file in (("rules", ALERTS), ("config", ALERTS.with_name("prometheus.yml"))):
        run = subprocess.run([promtool, "check", what, file], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
