"""Addresses for a TorchServe that must not meet another one."""

from __future__ import annotations

import socket

__all__ = ["free_addresses"]


def free_addresses() -> dict[str, str]:
    """Properties with five ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(5)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    http = [f"http://127.0.0.1:{port}" for port in ports[:3]]
    return {
        "inference_address": http[0],
        "management_address": http[1],
        "metrics_address": http[2],
        "grpc_inference_port": str(ports[3]),
        "grpc_management_port": str(ports[4]),
    }
