"""What the client reads of TorchServe's own answers."""

from typing import Any

import pytest

from videopure.client.status import MetricSample, ModelStatus, parse_metrics

pytestmark = pytest.mark.unit


def described(*statuses: str, min_workers: int = 1) -> dict[str, Any]:
    """As TorchServe 0.12 describes a model."""
    return {
        "modelName": "videopure",
        "modelVersion": "1.0",
        "minWorkers": min_workers,
        "maxWorkers": 2,
        "batchSize": 4,
        "maxBatchDelay": 50,
        "workers": [
            {
                "id": str(9000 + index),
                "startTime": "2026-01-01T00:00:00.000Z",
                "status": status,
                "memoryUsage": 1000,
                "pid": 42 if status == "READY" else -1,
                "gpu": False,
                "gpuUsage": "N/A",
            }
            for index, status in enumerate(statuses)
        ],
        "jobQueueStatus": {"remainingCapacity": 90, "pendingRequests": 10},
    }


def test_a_description_becomes_a_status() -> None:
    status = ModelStatus.parse(described("READY", "UNLOADING"))
    assert (status.name, status.version, status.batch_size) == ("videopure", "1.0", 4)
    assert (status.pending, status.queue_left) == (10, 90)
    assert [worker.ready for worker in status.workers] == [True, False]
    assert [worker.pid for worker in status.workers] == [42, 0]
    assert status.workers[0].device == "cpu"


@pytest.mark.parametrize(
    ("statuses", "min_workers", "ready"),
    [
        (["READY"], 1, True),
        (["READY", "READY"], 2, True),
        (["READY"], 2, False),
        (["READY", "UNLOADING"], 1, False),
        ([], 0, False),
    ],
)
def test_ready_means_that_all_workers_are_there_and_can_answer(
    statuses: list[str], min_workers: int, ready: bool
) -> None:
    assert ModelStatus.parse(described(*statuses, min_workers=min_workers)).ready is ready


def test_metrics_are_read_with_their_labels() -> None:
    text = """# HELP Requests How many.
# TYPE Requests counter
Requests{Outcome="OK",ModelName="a \\"b\\"\\\\n",} 3.0

plain 1e-3
bucket{le="+Inf"} +Inf
"""
    assert list(parse_metrics(text)) == [
        MetricSample("Requests", {"Outcome": "OK", "ModelName": 'a "b"\\n'}, 3.0),
        MetricSample("plain", {}, 0.001),
        MetricSample("bucket", {"le": "+Inf"}, float("inf")),
    ]


def test_what_is_no_metric_is_named() -> None:
    with pytest.raises(ValueError, match="not a metric sample: '<html>'"):
        list(parse_metrics("<html>"))
