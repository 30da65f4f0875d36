"""What a batch adds to the metrics, and that the declared metrics are those."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from videopure.handler.batching import MicroBatch
from videopure.handler.errors import NotAVideoError
from videopure.handler.metrics import Sample, samples_of
from videopure.handler.responses import Reply, error_reply
from videopure.handler.service import ServedBatch
from videopure.handler.similarity import Sighting
from videopure.purifier import Verdict, Vote

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
    return ServedBatch(
        [
            Reply(200, "OK", verdicts=(verdict(),), clips=2),
            Reply(200, "OK", verdicts=(bare,), clips=1),
            error_reply(NotAVideoError("no"), "id"),
        ],
        [MicroBatch(2, {"vote": 5.0, "encode": 1.0}), MicroBatch(1, {"vote": 2.0})],
        memory_splits=1,
        decode_ms=3.0,
        sightings=(Sighting("a", 0), Sighting("a", 1), Sighting("a", 20, alarm=True)),
    )


def test_a_batch_counts_what_it_did() -> None:
    samples = list(samples_of(batch()))

    def total(name: str, dimension: tuple[str, str] | None = None) -> float:
        return sum(s.value for s in samples if (s.name, s.dimension) == (name, dimension))

    assert total("VideoPureRequests", ("Outcome", "OK")) == 2
    assert total("VideoPureRequests", ("Outcome", "NotAVideoError")) == 1
    assert total("VideoPureClips") == 3
    assert total("VideoPureVotes") == 2
    assert total("VideoPureMemorySplits") == 1
    assert total("VideoPureNearDuplicates") == 2
    assert total("VideoPureSimilarityAlarms") == 1
    assert total("VideoPureStageMilliseconds", ("Stage", "vote")) == 7
    assert total("VideoPureStageMilliseconds", ("Stage", "decode")) == 3
    observed = [(s.name, s.value) for s in samples if s.kind == "histogram"]
    assert observed == [
        ("VideoPureAgreement", 1.0),
        ("VideoPureSuspicion", 0.25),
        ("VideoPureBatchSize", 3),
        ("VideoPureMicroBatchSize", 2),
        ("VideoPureMicroBatchSize", 1),
    ]


def test_every_metric_is_declared_as_it_is_sent() -> None:
    declared = yaml.safe_load((ROOT / "metrics.yaml").read_text())["model_metrics"]
    wanted = {
        (kind, metric["name"], metric["unit"], tuple(metric["dimensions"]))
        for kind, metrics in declared.items()
        for metric in metrics
        if metric["name"].startswith("VideoPure")
    }

    def signature(sample: Sample) -> tuple[str, str, str, tuple[str, ...]]:
        own = sample.dimension[:1] if sample.dimension else ()
        return sample.kind, sample.name, sample.unit, (*own, "ModelName", "Level")

    assert {signature(sample) for sample in samples_of(batch())} == wanted


def test_metrics_of_torchserve_itself_are_still_declared() -> None:
    folder = Path(str(find_spec("ts").origin)).parent  # importing it leaves a file open
    own = yaml.safe_load((folder / "configs" / "metrics.yaml").read_text())
    ours = yaml.safe_load((ROOT / "metrics.yaml").read_text())
    assert ours["ts_metrics"] == own["ts_metrics"]
    for kind, metrics in own["model_metrics"].items():
        assert all(metric in ours["model_metrics"][kind] for metric in metrics)
