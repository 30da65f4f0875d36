"""Object stores on this machine: real servers that speak S3 and Google Cloud Storage."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import fsspec
import httpx
import pytest

__all__ = ["bucket_in_gs", "bucket_in_s3", "free_ports"]


@contextmanager
def bucket_in_s3() -> Iterator[str]:
    """The URL of an empty bucket; processes that are started meanwhile find its server."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
    where = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        with _environment("s3", {**keys, **where}):
            httpx.post(f"{where['AWS_ENDPOINT_URL']}/moto-api/reset").raise_for_status()
            fsspec.filesystem("s3").mkdir("bucket")
            yield "s3://bucket"
    finally:
        server.stop()


@contextmanager
def bucket_in_gs() -> Iterator[str]:
    """The same of Google's, where gcsfs and gcp-storage-emulator are installed: none is ours."""
    pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    (port,) = free_ports(1)
    with (
        emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket"),
        _environment("gs", {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}),
    ):
        yield "gs://bucket"


@contextmanager
def _environment(protocol: str, variables: dict[str, str]) -> Iterator[None]:
    """With variables; what was opened with others is forgotten, since fsspec keeps it."""
    kind = fsspec.get_filesystem_class(protocol)
    with mock.patch.dict(os.environ, variables):
        kind.clear_instance_cache()
        try:
            yield
        finally:
            kind.clear_instance_cache()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
