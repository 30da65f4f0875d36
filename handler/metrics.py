"""What a worker tells Prometheus; `metrics.yaml` declares the same names for TorchServe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from videopure.handler.batching import stage_times
from videopure.handler.service import ServedBatch

__all__ = ["Sample", "emit", "samples_of"]

Kind = Literal["counter", "histogram"]


@dataclass(frozen=True)
class Sample:
    """One observation; its dimension, where it has one, is a (name, value) pair."""

    name: str
    value: float
    unit: str
    kind: Kind = "counter"
    dimension: tuple[str, str] | None = None


def samples_of(batch: ServedBatch) -> Iterator[Sample]:
    """What a served batch adds to the metrics.

    TorchServe's histograms have buckets from 0.005 to 10, which fits shares and batch sizes;
    milliseconds are summed up in counters instead.
    """
    for reply in batch.replies:
        outcome = "OK" if reply.status < 400 else str(reply.body["type"])
        yield Sample("VideoPureRequests", 1, "count", dimension=("Outcome", outcome))
        if reply.clips:
            yield Sample("VideoPureClips", reply.clips, "count")
        for verdict in reply.verdicts:
            if verdict.suspicion is not None:
                yield Sample("VideoPureVotes", len(verdict.votes), "count")
                yield Sample("VideoPureAgreement", verdict.agreement, "share", "histogram")
                yield Sample("VideoPureSuspicion", verdict.suspicion, "share", "histogram")
    for sighting in batch.sightings:
        if sighting.near:
            yield Sample("VideoPureNearDuplicates", 1, "count")
        if sighting.alarm:
            yield Sample("VideoPureSimilarityAlarms", 1, "count")
    yield Sample("VideoPureBatchSize", len(batch.replies), "count", "histogram")
    for micro_batch in batch.micro_batches:
        yield Sample("VideoPureMicroBatchSize", micro_batch.size, "count", "histogram")
    decoding = {"decode": batch.decode_ms} if batch.decode_ms else {}
    for stage, milliseconds in {**decoding, **stage_times(batch.micro_batches)}.items():
        yield Sample("VideoPureStageMilliseconds", milliseconds, "ms", dimension=("Stage", stage))
    if batch.memory_splits:
        yield Sample("VideoPureMemorySplits", batch.memory_splits, "count")


def emit(batch: ServedBatch, metrics: Any) -> None:
    """Hand the samples to the metrics of TorchServe's context."""
    # Only inside a worker is there a TorchServe to import.
    from ts.metrics.dimension import Dimension
    from ts.metrics.metric_type_enum import MetricTypes

    for sample in samples_of(batch):
        dimensions = [Dimension(*sample.dimension)] if sample.dimension else []
        # Appends the dimensions ModelName and Level; not declared is not an error, but not shown.
        metrics.add_metric(
            sample.name,
            sample.value,
            sample.unit,
            dimensions=dimensions,
            metric_type=MetricTypes(sample.kind),
        )
