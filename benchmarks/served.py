"""The served path: a real TorchServe, real HTTP, several clients at once."""

from __future__ import annotations

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from videopure.archive.build import build
from videopure.archive.spec import BuildSpec
from videopure.client import VideoPureClient
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.motions import BUNDLE
from videopure.motions.bundle_files import BundleSettings
from videopure.motions.clips import Stream, write_video
from videopure.wire.schemas import Answer

__all__ = ["PURIFYING", "measure_served", "percentile"]

# The stages of an answer that the purifier and the recogniser compute.
PURIFYING = ("flow", "encode", "invert", "denoise", "vote")


def measure_served(
    clients: tuple[int, ...], batch_sizes: tuple[int, ...], requests: int, threads: int
) -> dict[str, Any]:
    """Throughput and latency for each number of clients and each batch size.

    Args:
        clients: numbers of clients, each of which sends one request after the other.
        batch_sizes: maximum numbers of requests in a batch of the worker.
        requests: measured requests in each cell, of all clients together.
        threads: threads of the one worker.
    """
    cells, overhead = [], None
    with tempfile.TemporaryDirectory(prefix="videopure-benchmark-") as name:
        folder = Path(name)
        video = folder / "clip.mp4"
        write_video(Stream("test").clip(0)[0], video)
        for batch_size in batch_sizes:
            archive = _archive(folder, batch_size, threads)
            with (
                TorchServe(archive, folder=folder, overrides=free_addresses(), workers=1) as server,
                server.client() as client,
            ):
                client.predict(video)
                if overhead is None and batch_size == 1:
                    overhead = _overhead(client, video, requests)
                cells += [_cell(client, video, n, batch_size, requests) for n in clients]
    return {"requests": requests, "cells": cells, "overhead": overhead}


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _archive(folder: Path, batch_size: int, threads: int) -> Path:
    section = {
        **BundleSettings.read().archive_settings(),
        "threads": threads,
        "max_clips_per_forward": max(4, batch_size),
    }
    spec = BuildSpec(
        recogniser=BUNDLE / "recogniser",
        pipeline=BUNDLE / "pipeline",
        out=folder / f"batch{batch_size}" / "videopure.mar",
        config={"batchSize": batch_size, "videopure": section},
    )
    spec.out.parent.mkdir()
    return build(spec)


def _cell(
    client: VideoPureClient, video: Path, clients: int, batch_size: int, requests: int
) -> dict[str, Any]:
    def ask(_: int) -> float:
        return _ask(client, video)[0]

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = list(pool.map(ask, range(max(requests, 2 * clients))))
    spent = time.perf_counter() - start
    return {
        "clients": clients,
        "batch_size": batch_size,
        "requests": len(seconds),
        "per_second": len(seconds) / spent,
        "p50_ms": 1000 * percentile(seconds, 0.5),
        "p95_ms": 1000 * percentile(seconds, 0.95),
        "p99_ms": 1000 * percentile(seconds, 0.99),
    }


def _overhead(client: VideoPureClient, video: Path, requests: int) -> dict[str, Any]:
    """Breakdown of the time of one client's requests; medians in milliseconds."""
    rows = []
    for _ in range(requests):
        seconds, answer = _ask(client, video)
        timing = answer.timing_ms
        purifying = sum(timing[stage] for stage in PURIFYING)
        whole = 1000 * seconds
        rows.append(
            {
                "whole": whole,
                "purifying": purifying,
                "decoding": timing["decode"],
                "rest of the handler": timing["total"] - timing["decode"] - purifying,
                "HTTP, JSON and TorchServe": whole - timing["total"],
                "share that is not purifying": 1 - purifying / whole,
            }
        )
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def _ask(client: VideoPureClient, video: Path) -> tuple[float, Answer]:
    start = time.perf_counter()
    answer = client.predict(video)
    return time.perf_counter() - start, answer
