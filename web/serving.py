"""Runs the page's server until it is stopped."""

from __future__ import annotations

import socket

import uvicorn
from starlette.applications import Starlette

__all__ = ["listen", "make_server", "run"]


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 picks a free one.

    Raises:
        OSError: if there is no such address, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family)


def run(app: Starlette, listening: socket.socket) -> None:
    """Serve a page until Ctrl-C or SIGTERM."""
    make_server(app).run(sockets=[listening])


def make_server(app: Starlette) -> uvicorn.Server:
    """The server of a page: only HTTP, one process, no request log."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # headers about a request's origin are not trusted
        ws="none",
        limit_concurrency=64,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)
