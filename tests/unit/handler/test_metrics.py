"""What a batch adds to the metrics, and that the declared metrics are those."""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from videopure.handler.batching import MicroBatch
from videopure.handler.errors import NotAVideoError
from videopure.handler.metrics import Sample, first_samples, samples_of
from videopure.handler.responses import Judged, Reply, error_reply
from videopure.handler.service import ServedBatch
from videopure.handler.similarity import Sighting
from videopure.purifier import PurifySettings, Verdict, Vote
from videopure.wire.schemas import ModelNames

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]


def verdict(**changes: Any) -> Verdict:
    votes = (Vote(21, 0, 0.9), Vote(1, 0, 0.8))
    probabilities = torch.tensor([0.9, 0.1])
    values = {
        "label_id": 0,
        "probabilities": probabilities,
        "votes": votes,
        "of": 3,
        "agreement": 1.0,
        "undefended": probabilities,
        "suspicion": 0.25,
    }
    return Verdict(**{**values, **changes})


def batch() -> ServedBatch:
    """An answer, one without purification, and an error."""
    bare = verdict(votes=(), of=0, suspicion=None)
    times = {"decode": 3.0, "vote": 5.0, "total": 10_000.0}
    return ServedBatch(
        [
            Reply(200, "OK", judged=(Judged(verdict(), True, times),), clips=2),
            Reply(200, "OK", judged=(Judged(bare, None, {"total": 100_000.0}),), clips=1),
            error_reply(NotAVideoError("no"), "id"),
        ],
        [MicroBatch(2, {"vote": 5.0, "encode": 1.0}), MicroBatch(1, {"vote": 2.0})],
        memory_splits=1,
        decode_ms=3.0,
        sightings=(Sighting("a", 0), Sighting("a", 1), Sighting("a", 20, alarm=True)),
    )


def service(**changes: Any) -> Any:
    """What a worker knows of what it serves."""
    own = {
        "names": ModelNames(name="v", version="1", recogniser="a, b|c", purifier="http://x"),
        "defended": SimpleNamespace(settings=PurifySettings(suspicion_threshold=0.25)),
        "calibrated": True,
    }
    return SimpleNamespace(**{**own, **changes})


def total(samples: list[Sample], name: str, *dimensions: tuple[str, str]) -> float:
    return sum(s.value for s in samples if (s.name, s.dimensions) == (name, dimensions))


def test_a_batch_counts_what_it_did() -> None:
    samples = list(samples_of(batch()))
    for name, dimension, value in [
        ("Requests", ("Outcome", "OK"), 2),
        ("Requests", ("Outcome", "NotAVideoError"), 1),
        ("Verdicts", ("Adversarial", "yes"), 1),
        ("Verdicts", ("Adversarial", "unknown"), 1),
        ("StageMilliseconds", ("Stage", "vote"), 7),
        ("StageMilliseconds", ("Stage", "decode"), 3),
    ]:
        assert total(samples, f"VideoPure{name}", dimension) == value, name
    assert total(samples, "VideoPureClips") == 3
    assert total(samples, "VideoPureVotes") == 2
    assert total(samples, "VideoPureMemorySplits") == 1
    assert total(samples, "VideoPureNearDuplicates") == 2
    assert total(samples, "VideoPureSimilarityAlarms") == 1
    observed = [(s.name, s.value) for s in samples if s.kind == "histogram"]
    assert observed == [
        ("VideoPureAgreement", 1.0),
        ("VideoPureBatchSize", 3),
        ("VideoPureMicroBatchSize", 2),
        ("VideoPureMicroBatchSize", 1),
    ]


def buckets(samples: list[Sample], name: str, *own: tuple[str, str]) -> dict[str, float]:
    """Counts by upper bound."""
    return {
        s.dimensions[-1][1]: s.value
        for s in samples
        if s.name == f"{name}_bucket" and s.dimensions[:-1] == own
    }


def test_buckets_count_all_that_is_at_most_their_bound() -> None:
    samples = list(samples_of(batch()))
    suspicion = buckets(samples, "VideoPureSuspicion")
    assert list(suspicion) == [
        "0.3",
        "0.4",
        "0.5",
        "0.6",
        "0.7",
        "0.8",
        "0.9",
        "0.95",
        "0.99",
        "1.0",
        "+Inf",
    ]
    assert set(suspicion.values()) == {1}
    assert total(samples, "VideoPureSuspicion_sum") == 0.25
    assert total(samples, "VideoPureSuspicion_count") == 1
    stage = ("Stage", "total")
    assert buckets(samples, "VideoPureStageSeconds", stage) == {
        "10.0": 1, "30.0": 1, "60.0": 1, "120.0": 2, "+Inf": 2,
    }  # fmt: skip
    assert total(samples, "VideoPureStageSeconds_sum", stage) == 110
    assert total(samples, "VideoPureStageSeconds_count", stage) == 2
    assert total(samples, "VideoPureStageSeconds_count", ("Stage", "vote")) == 1
    assert buckets(samples, "VideoPureStageSeconds", ("Stage", "decode"))["0.005"] == 1


def test_a_worker_begins_every_series_with_nothing() -> None:
    first = list(first_samples(service(), "ab12"))
    assert total(first, "VideoPureWorkerStarts") == 1
    assert total(first, "VideoPureSuspicionThreshold") == 0.25
    begun = {(s.name, s.dimensions) for s in first}
    later = {(s.name, s.dimensions) for s in samples_of(batch()) if s.kind == "counter"}
    assert {name for name, _ in later - begun} == {"VideoPureStageMilliseconds"}
    counters = [s for s in first if s.kind == "counter" and s.name != "VideoPureWorkerStarts"]
    assert all(s.value == 0 for s in counters)
    uncalibrated = first_samples(service(calibrated=False), "ab12")
    assert "VideoPureSuspicionThreshold" not in {s.name for s in uncalibrated}


def test_names_cannot_break_the_lines_that_torchserve_reads() -> None:
    (info,) = (s for s in first_samples(service(), "ab12") if s.name == "VideoPureInfo")
    told = dict(info.dimensions)
    assert (told["Recogniser"], told["Purifier"]) == ("a_b_c", "http_//x")
    assert (told["Archive"], told["Method"]) == ("ab12", "videopure")


def test_every_metric_is_declared_as_it_is_sent() -> None:
    declared = yaml.safe_load((ROOT / "metrics.yaml").read_text())["model_metrics"]
    wanted = {
        (kind, metric["name"], metric["unit"], tuple(metric["dimensions"]))
        for kind, metrics in declared.items()
        for metric in metrics
        if metric["name"].startswith("VideoPure")
    }

    def signature(sample: Sample) -> tuple[str, str, str, tuple[str, ...]]:
        own = (name for name, _ in sample.dimensions)
        return sample.kind, sample.name, sample.unit, (*own, "ModelName", "Level")

    sent = [*samples_of(batch()), *first_samples(service(), "ab12")]
    assert {signature(sample) for sample in sent} == wanted


def test_metrics_of_torchserve_itself_are_still_declared() -> None:
    folder = Path(str(find_spec("ts").origin)).parent  # importing it leaves a file open
    own = yaml.safe_load((folder / "configs" / "metrics.yaml").read_text())
    ours = yaml.safe_load((ROOT / "metrics.yaml").read_text())
    assert ours["ts_metrics"] == own["ts_metrics"]
    for kind, metrics in own["model_metrics"].items():
        assert all(metric in ours["model_metrics"][kind] for metric in metrics)
