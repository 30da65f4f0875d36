"""`python -m videopure.demo`: what `make demo` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopure.demo.show import show


def main(
    archive: Annotated[Path, typer.Option(help="The demo's archive.")] = Path(
        "model_store/videopure.mar"
    ),
    out: Annotated[Path, typer.Option(help="Folder for clips, picture and log.")] = Path(
        "demo-out"
    ),
    clips: Annotated[int, typer.Option(min=1, help="Clips to show.")] = 3,
    first: Annotated[int, typer.Option(min=0, help="Number of the first test clip.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the attack's random start.")] = 0,
) -> None:
    """Serve the demo's archive and send it clean and attacked clips."""
    show(archive, out, count=clips, start=first, seed=seed)


if __name__ == "__main__":
    typer.run(main)
