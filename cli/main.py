"""The `videopure` command line."""

from __future__ import annotations

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
from videopure.cli.key import key
from videopure.cli.manage import describe, status, workers
from videopure.cli.predict import predict
from videopure.cli.purify import purify
from videopure.cli.screen import screen
from videopure.cli.serve import serve
from videopure.cli.terminal import fail
from videopure.cli.train import train
from videopure.cli.tune import tune
from videopure.cli.web import web
from videopure.wire.installing import install_hint

__all__ = ["app", "main"]

# The extra that brings the packages of each command that needs some.
_EXTRAS = {
    **dict.fromkeys(("jinja2", "matplotlib"), "evaluate"),
    **dict.fromkeys(("fsspec", "pyarrow", "ray"), "ray"),
}

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
    *(serve, web, predict, status, workers, describe, key),
    *(screen, purify, doctor, evaluate),
    *(train, calibrate, tune, harden),
):
    app.command()(command)


def main() -> None:
    """Entry point of the `videopure` command."""
    try:
        app()
    except ModuleNotFoundError as error:
        # The client's own commands work without the rest.
        package = (error.name or "").partition(".")[0]
        if not package or package == "videopure":
            raise
        raise SystemExit(_missing(package)) from None


def _missing(package: str) -> int:
    """Say how to install the packages that a command lacks; returns the exit code."""
    extra = _EXTRAS.get(package, "serve")
    return fail(f"this command needs {package}: {install_hint(extra)}").exit_code
