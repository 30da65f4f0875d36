"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "ARCHIVE",
    "DEFAULT_MODEL",
    "DEFAULT_URL",
    "HOW",
    "STOPPED",
    "Archive",
    "AsJson",
    "KeyFile",
    "ManagementUrl",
    "Model",
    "RequiredKey",
    "Seed",
    "Threads",
    "Url",
    "labelled_clips",
]

ARCHIVE = Path("model_store/videopure.mar")
STOPPED = 130  # exit status of a stopped command, as in shells
HOW = "How"  # heading in --help
DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_MODEL = "videopure"

Archive = Annotated[Path, typer.Option(help="The archive.")]
Url = Annotated[str, typer.Option(envvar="VIDEOPURE_URL", help="TorchServe's inference address.")]
ManagementUrl = Annotated[
    str, typer.Option(envvar="VIDEOPURE_MANAGEMENT_URL", help="TorchServe's management address.")
]
Model = Annotated[
    str, typer.Option(help="The model's name: that of the archive's file, without .mar.")
]
KeyFile = Annotated[
    Path,
    typer.Option(
        envvar="VIDEOPURE_KEY_FILE", help="TorchServe writes it into the folder it is started in."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for scripts, instead of a table.")]
RequiredKey = Annotated[
    Path | None,
    typer.Option(
        "--require-signature",
        help="PEM file of the public key that must have signed the archive.",
        exists=True,
        dir_okay=False,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all random draws.", rich_help_panel=HOW)]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads per process.", rich_help_panel=HOW)]


def labelled_clips(panel: str) -> Any:
    """The option that names clips of known classes, under a heading of --help."""
    return typer.Option(
        help="`demo`, a folder with one folder of videos per class, or a CSV with the columns "
        "path and label.",
        rich_help_panel=panel,
    )
