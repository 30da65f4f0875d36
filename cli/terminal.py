"""The consoles and messages that all commands share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from videopure.client.errors import ClientError, ModelNotFoundError

__all__ = ["console", "errors", "explained", "fail", "own_command", "tell_skipped"]

console = Console()
errors = Console(stderr=True)


def explained(error: ClientError, model: str) -> str:
    """The message of a client's error, for a command that asked for `model`."""
    if isinstance(error, ModelNotFoundError):
        return (
            f"the server has no model {model!r}: give its name with --model, which is the name of "
            "the archive's file without .mar; `videopure serve` prints it"
        )
    return str(error)


def fail(message: str, code: int = 1) -> typer.Exit:
    """Print an error; returns the exit with `code` for the caller to raise."""
    errors.print(f"[bold red]Error:[/bold red] {escape(message)}", highlight=False)
    return typer.Exit(code)


def own_command() -> str:
    """What to type for `videopure` in this folder and shell, such as `.venv/bin/videopure`."""
    script = Path(sys.executable).with_name("videopure")
    found = shutil.which("videopure")
    if not script.is_file() or (found is not None and Path(found).samefile(script)):
        return "videopure"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)


def tell_skipped(faults: Sequence[str]) -> None:
    """List the videos that could not be read, each with the reason."""
    if not faults:
        return
    count = "1 video" if len(faults) == 1 else f"{len(faults)} videos"
    errors.print(f"Skipped {count} that cannot be read:", highlight=False)
    for fault in faults:
        errors.print(f"  {fault}", highlight=False, markup=False, soft_wrap=True)
