"""Addresses of a TorchServe, which must not collide with those of another one."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address
from urllib.parse import urlsplit

__all__ = ["addresses", "free_addresses", "taken_address"]

# TorchServe's defaults, for missing properties.
_HTTP = {"inference_address": 8080, "management_address": 8081, "metrics_address": 8082}
_LAST_PORT = 65535
_GRPC = {"grpc_inference": 7070, "grpc_management": 7071}


def addresses(host: str = "127.0.0.1", port: int | None = None) -> dict[str, str]:
    """Properties that say where a server listens.

    Args:
        host: IPv4 address that answers predictions, over HTTP and gRPC. Management and metrics
            always stay on 127.0.0.1.
        port: port of predictions; management, metrics and the two gRPC ports are the next four. By
            default TorchServe's own: 8080 to 8082, 7070 and 7071.

    Raises:
        ValueError: if `host` is not an IPv4 address, or `port` leaves no room for five.
    """
    try:
        IPv4Address(host)
    except ValueError:
        raise ValueError(f"bind must be an IPv4 address such as 0.0.0.0, got {host!r}") from None
    if port is not None and not 1 <= port <= _LAST_PORT - 4:
        raise ValueError(
            f"port must be 1 to {_LAST_PORT - 4}, as the four after it are used too, got {port}"
        )
    http = port or _HTTP["inference_address"]
    grpc = port + 3 if port else _GRPC["grpc_inference"]
    return {
        "inference_address": f"http://{host}:{http}",
        "management_address": f"http://127.0.0.1:{http + 1}",
        "metrics_address": f"http://127.0.0.1:{http + 2}",
        "grpc_inference_address": host,
        "grpc_inference_port": str(grpc),
        "grpc_management_address": "127.0.0.1",
        "grpc_management_port": str(grpc + 1),
    }


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


def taken_address(properties: Mapping[str, str]) -> str | None:
    """The first `host:port` of a server's properties that another process listens on."""
    addresses = []
    for name, port in _HTTP.items():
        url = urlsplit(properties.get(name, f"http://127.0.0.1:{port}"))
        if url.hostname is not None:
            addresses.append((url.hostname, url.port or port))
    for name, port in _GRPC.items():
        host = properties.get(f"{name}_address", "127.0.0.1")
        addresses.append((host, int(properties.get(f"{name}_port", port))))
    return next((f"{host}:{port}" for host, port in addresses if _is_taken(host, port)), None)


def _is_taken(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Like TorchServe's own bind: lingering connections of the last run do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # On Linux SO_REUSEADDR lets two sockets bind, but not both of them listen.
            probe.listen()
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
