"""`videopure serve`: a TorchServe in the foreground."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from videopure.cli.options import ARCHIVE
from videopure.cli.terminal import console, fail
from videopure.client.errors import ClientError
from videopure.launcher.java import JavaNotFoundError
from videopure.launcher.server import TorchServe

__all__ = ["serve"]


def serve(
    archive: Annotated[Path, typer.Option(help="Archive to serve.")] = ARCHIVE,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Workers to start.", show_default="as the configuration says"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Properties file.",
            exists=True,
            dir_okay=False,
            show_default="./config.properties, else the packaged one",
        ),
    ] = None,
) -> None:
    """Serve an archive in the foreground until Ctrl-C."""
    server = TorchServe(archive, config=config, workers=workers)
    # Ctrl-C, SIGTERM and a closed terminal all end up in the `finally` below; the first is
    # ignored by default where a script starts the server in the background.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with console.status("Starting TorchServe and waiting for ready workers"):
            server.start()
            server.wait_until_ready()
        url = server.client().inference_url
        console.print(f"Ready: POST videos to {url}/predictions/{server.model}")
        console.print(f"Keys: {server.folder / 'key_file.json'}   Log: {server.log_file}")
        console.print("Ctrl-C stops the server.")
        server.wait()
    except KeyboardInterrupt:
        console.print("Stopping")
    except (ClientError, JavaNotFoundError) as error:
        raise fail(str(error)) from error
    finally:
        server.stop()
