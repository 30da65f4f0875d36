"""`videopure workers`, `status` and `describe`: the management API."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from videopure.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_URL,
    AsJson,
    KeyFile,
    ManagementUrl,
    Model,
    Url,
)
from videopure.cli.terminal import console, errors, explained, fail
from videopure.client.api import VideoPureClient
from videopure.client.errors import ClientError
from videopure.client.status import ModelStatus

__all__ = ["describe", "status", "workers"]


def workers(
    count: Annotated[
        int | None,
        typer.Argument(min=0, help="Number to scale to; without it, list the workers."),
    ] = None,
    management_url: ManagementUrl = "http://127.0.0.1:8081",
    model: Model = DEFAULT_MODEL,
    key_file: KeyFile = Path("key_file.json"),
    timeout: Annotated[float, typer.Option(help="Seconds to wait for new workers.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """List the model's workers, or change their number and wait until they are ready."""
    with VideoPureClient(management_url=management_url, model=model, key_file=key_file) as client:
        try:
            if count is not None:
                with errors.status(f"Scaling {model} to {count} workers"):
                    client.scale(count, timeout=timeout)
            _show(client.status(), as_json=as_json)
        except ClientError as error:
            raise fail(explained(error, model)) from error


def status(
    url: Url = DEFAULT_URL,
    management_url: ManagementUrl = "http://127.0.0.1:8081",
    model: Model = DEFAULT_MODEL,
    key_file: KeyFile = Path("key_file.json"),
    as_json: AsJson = False,
) -> None:
    """Say whether the model can answer: exit code 0 if all its workers are ready, else 1."""
    with VideoPureClient(url, management_url, model=model, key_file=key_file) as client:
        try:
            found = client.status()
        except ClientError as error:
            raise fail(explained(error, model)) from error
    _show(found, as_json=as_json)
    raise typer.Exit(int(not found.ready))


def describe(
    management_url: ManagementUrl = "http://127.0.0.1:8081",
    model: Model = DEFAULT_MODEL,
    key_file: KeyFile = Path("key_file.json"),
) -> None:
    """Print the model's description as JSON: labels, options and their ranges, limits, versions.

    A worker answers this, after the requests that are waiting.
    """
    with VideoPureClient(management_url=management_url, model=model, key_file=key_file) as client:
        try:
            print(json.dumps(client.describe(), indent=2))
        except ClientError as error:
            raise fail(explained(error, model)) from error


def _show(found: ModelStatus, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**asdict(found), "ready": found.ready}))
        return
    state = "ready" if found.ready else "not ready"
    console.print(
        f"{found.name} {found.version}: {state}; batches of up to {found.batch_size}, filled "
        f"for up to {found.max_batch_delay_ms} ms; {found.pending} requests waiting, "
        f"room for {found.queue_left} more",
        highlight=False,
    )
    table = Table("worker", "pid", "status", "device", "MB", box=SIMPLE, pad_edge=False)
    for worker in found.workers:
        memory = f"{worker.memory_bytes / 1e6:.0f}"
        table.add_row(worker.id, str(worker.pid), worker.status, worker.device, memory)
    console.print(table)
