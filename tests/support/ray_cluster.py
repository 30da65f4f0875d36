"""A Ray cluster of two nodes on this machine, in a process of its own.

    python -m tests.support.ray_cluster FOLDER

Prints a line of JSON with its address and the process of its second node. Lines on standard input:
`lose` kills that node, and `add` starts another one. Its end ends the cluster.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from tests.support.stores import free_ports

__all__ = ["RayCluster", "ray_cluster"]

_TRIES = 3  # Ray gives a node half a minute to start


class RayCluster:
    """A running cluster with a core on each node."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        self.address, self.client_address = told["address"], told["client_address"]
        self._raylet = psutil.Process(told["second"])

    def works(self, name: str) -> bool:
        """Whether a process with such a name belongs to the second node."""
        return any(name in " ".join(p.cmdline()) for p in self._raylet.children(recursive=True))

    def lose_a_node(self) -> None:
        """Kill the second node with all of its processes."""
        self._order("lose")

    def add_a_node(self) -> None:
        """Start another one."""
        self._order("add")

    def _order(self, what: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == f"{what}\n"


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """A cluster whose workers see this process's environment; nothing of it is left behind."""
    folder = tempfile.mkdtemp(prefix="ray-")  # short, as paths of sockets must be
    command = [sys.executable, "-m", "tests.support.ray_cluster", folder]
    # Whether this machine has a token for other clusters does not matter.
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield RayCluster(process)
    finally:
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def _added(cluster: Any, **options: Any) -> Any:
    for attempt in range(_TRIES):
        try:
            return cluster.add_node(num_cpus=1, **options)
        except Exception:
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _main(folder: str) -> None:
    from ray.cluster_utils import Cluster

    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints
    cluster = Cluster()
    try:
        (port,) = free_ports(1)
        head = _added(
            cluster, temp_dir=folder, include_dashboard=False, ray_client_server_port=port
        )
        second = _added(cluster)
        address = {"address": cluster.address, "client_address": f"{head.node_ip_address}:{port}"}
        (raylet,) = second.all_processes["raylet"]
        print(json.dumps({**address, "second": raylet.process.pid}), file=told, flush=True)
        for order in sys.stdin:
            if order == "lose\n":
                cluster.remove_node(second, allow_graceful=False)
            else:
                _added(cluster)
            print(order, end="", file=told, flush=True)
    finally:
        for node in filter(None, [*cluster.worker_nodes, cluster.head_node]):
            cluster.remove_node(node, allow_graceful=False)
        cluster.shutdown()  # which forgets its address


if __name__ == "__main__":
    _main(*sys.argv[1:])
