"""The queries of dashboard and alert rules against a real Prometheus that asks a real server."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.support.load import wait_for
from tests.support.monitoring import PROMETHEUS, alerts, panels
from videopure.client import ClientError, VideoPureClient
from videopure.demo import SAMPLES
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

VIDEOS = sorted(SAMPLES.glob("*.mp4"))
EMPTY = {"GPU"}  # there need not be one


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}: install Debian's package prometheus")
    return found


class Asked:
    """A Prometheus that asks a server every second."""

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, query: str) -> list[dict[str, Any]]:
        url = f"{self.address}/api/v1/query"
        answer = requests.get(url, params={"query": query}, timeout=60).json()
        assert answer["status"] == "success", (query, answer)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, query: str) -> float:
        result = self.query(query)
        return float(result[0]["value"][1]) if len(result) == 1 else float("nan")


@pytest.fixture
def prometheus(server: TorchServe, tmp_path: Path) -> Iterator[Asked]:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    target = server.overrides["metrics_address"].removeprefix("http://")
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copyfile(PROMETHEUS / "alerts.yml", tmp_path / "alerts.yml")
    address = free_addresses()["metrics_address"]
    command = [
        program("prometheus"),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address.removeprefix('http://')}",
    ]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        asked = Asked(address)
        wait_for(lambda: is_ready(address), "Prometheus")
        wait_for(lambda: asked.query('up{job="videopure"} == 1'), "scrape")
        yield asked
    finally:
        running.terminate()
        running.wait(timeout=60)


def is_ready(address: str) -> bool:
    try:
        return requests.get(f"{address}/-/ready", timeout=10).ok
    except requests.ConnectionError:
        return False


def kill_a_worker(server: TorchServe, client: VideoPureClient) -> None:
    """Its batch fails with a 5xx, and another worker takes its place."""
    video = VIDEOS[0].read_bytes()
    os.kill(client.workers()[0].pid, signal.SIGKILL)
    with pytest.raises(ClientError):
        client.predict(video)
    server.wait_until_ready()


def test_every_query_is_answered_with_what_was_asked(
    server: TorchServe, client: VideoPureClient, prometheus: Asked
) -> None:
    def counted(name: str, selector: str = "") -> float:
        return prometheus.value(f"sum({name}{{{selector}}})")

    before = {
        outcome: counted("VideoPureRequests", f'Outcome="{outcome}"')
        for outcome in ("OK", "NotAVideoError")
    }
    alarms, seen = counted("VideoPureVerdicts", 'Adversarial="yes"'), counted("VideoPureVerdicts")
    starts = counted("VideoPureWorkerStarts")
    kill_a_worker(server, client)
    answers = [client.predict(video.read_bytes()) for video in VIDEOS]
    with pytest.raises(ClientError):
        client.predict(b"no video")
    wait_for(
        lambda: (
            counted("VideoPureRequests", 'Outcome="NotAVideoError"') == before["NotAVideoError"] + 1
        ),
        "scrape of the requests",
    )
    assert counted("VideoPureRequests", 'Outcome="OK"') == before["OK"] + len(VIDEOS)
    assert counted("VideoPureVerdicts") == seen + len(VIDEOS)
    raised = sum(bool(answer.suspicion.adversarial) for answer in answers)
    assert raised > 0
    assert counted("VideoPureVerdicts", 'Adversarial="yes"') == alarms + raised
    assert counted("VideoPureWorkerStarts") == starts + 1

    # A quantile lies in the bucket that the answers' own times fall into.
    longest = max(answer.timing_ms["total"] for answer in answers) / 1000
    quantile = prometheus.value(
        "histogram_quantile(0.99, sum by (le) "
        '(increase(VideoPureStageSeconds_bucket{Stage="total"}[10m])))'
    )
    assert longest / 3 < quantile < 3 * longest
    scores = [float(answer.suspicion.score) for answer in answers]
    highest = prometheus.value(
        "histogram_quantile(1, sum by (le) (increase(VideoPureSuspicion_bucket[10m])))"
    )
    assert highest >= max(scores)

    # Faults are counted from the second on: the first begins the series.
    wait_for(lambda: prometheus.query("Requests5XX"), "scrape of the fault")
    kill_a_worker(server, client)
    client.predict(VIDEOS[0].read_bytes())
    wait_for(lambda: prometheus.query("sum(rate(Requests5XX[10m])) > 0"), "rise of the faults")
    for title, queries in panels().items():
        for query in queries:
            result = prometheus.query(query)
            assert bool(result) != (title in EMPTY), (title, query)
            if "rate(" in query:
                assert any(float(r["value"][1]) >= 0 for r in result) or title in EMPTY, query
    for query in alerts().values():
        prometheus.query(query)
    # Without their limits, the rules have something to compare.
    for name, query in alerts().items():
        plain = query.partition(" > ")[0].partition(" == ")[0]
        if "offset" not in plain:
            assert prometheus.query(plain), name


def test_alerts_fire_on_what_they_are_for() -> None:
    rules = [program("promtool"), "test", "rules", str(PROMETHEUS / "alerts.test.yml")]
    run = subprocess.run(rules, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
