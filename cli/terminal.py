"""What all commands print to."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.markup import escape

__all__ = ["console", "errors", "fail"]

console = Console()
errors = Console(stderr=True)


def fail(message: str, code: int = 1) -> typer.Exit:
    """Print an error; returns the exit with `code` that the caller is to raise."""
    errors.print(f"[bold red]Error:[/bold red] {escape(message)}", highlight=False)
    return typer.Exit(code)
