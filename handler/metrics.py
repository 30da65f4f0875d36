"""A worker's metrics for Prometheus; `metrics.yaml` declares the same names for TorchServe.

TorchServe adds up what its workers send, so counters outlive a worker. Its own histograms have
fixed buckets from 0.005 to 10, too coarse for the suspicion and too low for seconds. So these two
are counters `NAME_bucket` with the label `le`, `NAME_sum` and `NAME_count`, which is all that
Prometheus' `histogram_quantile` needs.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from videopure.handler import errors
from videopure.handler.batching import stage_times
from videopure.handler.service import ServedBatch, VideoPureService
from videopure.purifier import __version__

__all__ = ["Sample", "emit", "first_samples", "samples_of"]

Kind = Literal["counter", "gauge", "histogram"]
Dimension = tuple[str, str]

# In seconds: from a stage of a small clip on a GPU to TorchServe's longest usual responseTimeout.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# Thresholds of the alarm are calibrated: often near 0, where most clean clips are, or anywhere.
SUSPICION = (
    *(0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(k / 10 for k in range(1, 10)),
    *(0.95, 0.99, 1.0),
)
# `total` is a request's time in the worker, from its batch's start; the queue comes before.
STAGES = ("decode", "flow", "encode", "invert", "denoise", "vote", "total")
COUNTS = (
    *("VideoPureClips", "VideoPureVotes", "VideoPureMemorySplits"),
    *("VideoPureNearDuplicates", "VideoPureSimilarityAlarms"),
)
OUTCOMES = ("OK", *(name for name in errors.__all__ if name != "RequestError"))
VERDICTS = {True: "yes", False: "no", None: "unknown"}
# TorchServe reads metrics as text: these characters separate its fields.
_SEPARATORS = re.compile(r"[,:|\s\"\\]+")
_LONGEST = 100  # characters of a name


@dataclass(frozen=True)
class Sample:
    """One observation, with its own dimensions besides those that TorchServe adds."""

    name: str
    value: float
    unit: str
    kind: Kind = "counter"
    dimensions: tuple[Dimension, ...] = ()


def first_samples(service: VideoPureService, digest: str) -> Iterator[Sample]:
    """The samples that a worker sends when it is ready.

    Counters at zero: Prometheus sees no increase in a series that starts with its first event, and
    computes wrong quantiles if a bucket is missing.

    Args:
        service: service of the worker.
        digest: digest of the archive, as `videopure inspect` prints it.
    """
    yield Sample("VideoPureWorkerStarts", 1, "count")
    names, purification = service.names, service.defended.settings
    told = {
        "Version": names.version,
        "Archive": digest,
        "Recogniser": names.recogniser,
        "Purifier": names.purifier,
        "Method": purification.method,
        "VideoPure": __version__,
    }
    plain = tuple((name, _SEPARATORS.sub("_", text)[:_LONGEST]) for name, text in told.items())
    yield Sample("VideoPureInfo", 1, "count", "gauge", plain)
    threshold = purification.suspicion_threshold
    if threshold is not None and service.calibrated:
        yield Sample("VideoPureSuspicionThreshold", threshold, "share", "gauge")
    for name in COUNTS:
        yield Sample(name, 0, "count")
    for outcome in OUTCOMES:
        yield Sample("VideoPureRequests", 0, "count", dimensions=(("Outcome", outcome),))
    for verdict in VERDICTS.values():
        yield Sample("VideoPureVerdicts", 0, "count", dimensions=(("Adversarial", verdict),))
    yield from _empty("VideoPureSuspicion", "share", SUSPICION)
    for stage in STAGES:
        yield from _empty("VideoPureStageSeconds", "s", SECONDS, ("Stage", stage))


def samples_of(batch: ServedBatch) -> Iterator[Sample]:
    """The samples of a served batch."""
    outcomes = Counter(
        "OK" if reply.status < 400 else str(reply.body["type"]) for reply in batch.replies
    )
    for outcome, count in outcomes.items():
        yield Sample("VideoPureRequests", count, "count", dimensions=(("Outcome", outcome),))
    yield from _of_videos(batch)
    for sighting in batch.sightings:
        if sighting.near:
            yield Sample("VideoPureNearDuplicates", 1, "count")
        if sighting.alarm:
            yield Sample("VideoPureSimilarityAlarms", 1, "count")
    yield Sample("VideoPureBatchSize", len(batch.replies), "count", "histogram")
    for micro_batch in batch.micro_batches:
        yield Sample("VideoPureMicroBatchSize", micro_batch.size, "count", "histogram")
    decoding = {"decode": batch.decode_ms} if batch.decode_ms else {}
    for stage, spent in {**decoding, **stage_times(batch.micro_batches)}.items():
        yield Sample("VideoPureStageMilliseconds", spent, "ms", dimensions=(("Stage", stage),))
    if batch.memory_splits:
        yield Sample("VideoPureMemorySplits", batch.memory_splits, "count")


def _of_videos(batch: ServedBatch) -> Iterator[Sample]:
    """The samples of the videos that were answered."""
    for reply in batch.replies:
        if reply.clips:
            yield Sample("VideoPureClips", reply.clips, "count")
    judged = [each for reply in batch.replies for each in reply.judged]
    alarms = Counter(VERDICTS[each.adversarial] for each in judged)
    for alarm, count in alarms.items():
        yield Sample("VideoPureVerdicts", count, "count", dimensions=(("Adversarial", alarm),))
    purified = [each.verdict for each in judged if each.verdict.suspicion is not None]
    for verdict in purified:
        yield Sample("VideoPureVotes", len(verdict.votes), "count")
        yield Sample("VideoPureAgreement", verdict.agreement, "share", "histogram")
    scores = [verdict.suspicion for verdict in purified if verdict.suspicion is not None]
    yield from _observed("VideoPureSuspicion", "share", SUSPICION, scores)
    for stage in STAGES:
        spent = [each.timing_ms[stage] / 1000 for each in judged if stage in each.timing_ms]
        yield from _observed("VideoPureStageSeconds", "s", SECONDS, spent, ("Stage", stage))


def _empty(name: str, unit: str, bounds: tuple[float, ...], *own: Dimension) -> Iterator[Sample]:
    for bound in (*map(str, bounds), "+Inf"):
        yield Sample(f"{name}_bucket", 0, "count", dimensions=(*own, ("le", bound)))
    yield Sample(f"{name}_sum", 0, unit, dimensions=own)
    yield Sample(f"{name}_count", 0, "count", dimensions=own)


def _observed(
    name: str, unit: str, bounds: tuple[float, ...], values: Iterable[float], *own: Dimension
) -> Iterator[Sample]:
    """The samples of values in a histogram; a bucket counts all values up to its bound."""
    values = list(values)
    if not values:
        return
    first = Counter(bisect_left(bounds, value) for value in values)  # bucket of each value
    counts = accumulate(first[place] for place in range(len(bounds) + 1))
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        if count:
            yield Sample(f"{name}_bucket", count, "count", dimensions=(*own, ("le", bound)))
    yield Sample(f"{name}_sum", sum(values), unit, dimensions=own)
    yield Sample(f"{name}_count", len(values), "count", dimensions=own)


def emit(samples: Iterable[Sample], metrics: Any) -> None:
    """Pass samples to the metrics of TorchServe's context."""
    # Only inside a worker is there a TorchServe to import.
    from ts.metrics.dimension import Dimension
    from ts.metrics.metric_type_enum import MetricTypes

    for sample in samples:
        dimensions = [Dimension(*pair) for pair in sample.dimensions]
        # TorchServe adds the model's name only to metrics that belong to a request.
        dimensions += [Dimension("ModelName", metrics.model_name), Dimension("Level", "Model")]
        # Undeclared metrics are no error, but are not shown.
        metrics.add_metric(
            sample.name,
            sample.value,
            sample.unit,
            dimensions=dimensions,
            metric_type=MetricTypes(sample.kind),
        )
