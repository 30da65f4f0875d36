"""The `videopure` command line."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Annotated

import typer

from videopure.cli.build import build
from videopure.cli.calibrate import calibrate
from videopure.cli.configure import configure, sign
from videopure.cli.doctor import doctor
from videopure.cli.evaluate import evaluate
from videopure.cli.harden import harden
from videopure.cli.inspect import inspect, verify
from videopure.cli.manage import status, workers
from videopure.cli.predict import predict
from videopure.cli.purify import purify
from videopure.cli.serve import serve
from videopure.cli.train import train
from videopure.cli.tune import tune

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


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
    """VideoPure for TorchServe: clips are purified before a video recogniser sees them."""


# In the order of --help.
for command in (
    *(build, inspect, verify, configure, sign),
    *(serve, predict, status, workers),
    *(purify, doctor, evaluate),
    *(train, calibrate, tune, harden),
):
    app.command()(command)


def main() -> None:
    """Entry point of the `videopure` command."""
    # Its warnings of repeated connections would stand beside our own errors.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    app()
