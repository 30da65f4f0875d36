"""The queries of the dashboard and of the alert rules, and the metrics that a server shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

__all__ = ["ALERTS", "DASHBOARD", "PROMETHEUS", "alerts", "panels", "selected", "shown_metrics"]

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = PROMETHEUS / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "videopure.json"

_WORDS = {"and", "or", "unless", "offset", "bool", "by", "without", "on", "ignoring", "vector"}


def alerts() -> dict[str, str]:
    """Each alert's query by its name."""
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def panels() -> dict[str, list[str]]:
    """The queries of each panel by its title, as Grafana would send them for all servers."""
    found = {}
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        queries = [target["expr"] for target in panel["targets"]]
        filled = [q.replace("$instance", ".*").replace("$__rate_interval", "10m") for q in queries]
        found[panel["title"]] = filled
    return found


def selected(query: str) -> dict[str, set[str]]:
    """The metrics that a query reads, each with the labels that it chooses by."""
    text = re.sub(r'"[^"]*"', '""', query)
    text = re.sub(r"\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|on|without)\s*\([^)]*\)", "", text)
    found: dict[str, set[str]] = {}
    for match in re.finditer(r"\b([a-zA-Z_]\w*)\b(?!\s*\()(?:\{([^}]*)\})?", text):
        if match[1] not in _WORDS:
            labels = re.findall(r"(\w+)\s*[=!]", match[2] or "")
            found.setdefault(match[1], set()).update(labels)
    return found


def shown_metrics() -> dict[str, set[str]]:
    """What a server with our metrics.yaml may show: names, and the labels of each."""
    declared: dict[str, Any] = yaml.safe_load((ROOT / "metrics.yaml").read_text(encoding="utf-8"))
    scraped = {"instance", "job"}  # by Prometheus itself
    found: dict[str, set[str]] = {"up": scraped}
    for part in ("ts_metrics", "model_metrics"):
        for kind, metrics in declared[part].items():
            for metric in metrics:
                labels = {*metric["dimensions"], "Hostname", *scraped}
                ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
                for end in ends:
                    found[metric["name"] + end] = labels | ({"le"} if end == "_bucket" else set())
    return found
