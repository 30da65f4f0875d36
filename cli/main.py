"""The `videopure` command line."""

from __future__ import annotations

import logging
import signal
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from videopure.cli.build import register
from videopure.cli.doctor import doctor
from videopure.cli.evaluate import evaluate
from videopure.cli.manage import status, workers
from videopure.cli.options import ARCHIVE
from videopure.cli.predict import predict
from videopure.cli.purify import purify
from videopure.cli.terminal import console, fail
from videopure.client.errors import ClientError
from videopure.launcher.java import JavaNotFoundError
from videopure.launcher.server import TorchServe

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
register(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"videopure {version('videopure')}")
        raise typer.Exit()


@app.callback()
def _all(
    show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serve a video recogniser that adversarial clips cannot fool."""


@app.command()
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


for command in (predict, status, workers, purify, doctor, evaluate):
    app.command()(command)


def main() -> None:
    """Entry point of the `videopure` command."""
    # Its warnings of repeated connections would stand beside our own errors.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    app()
