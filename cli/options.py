"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ARCHIVE",
    "Archive",
    "AsJson",
    "KeyFile",
    "ManagementUrl",
    "Model",
    "RequiredKey",
    "Url",
]

ARCHIVE = Path("model_store/videopure.mar")

Archive = Annotated[Path, typer.Option(help="The archive.")]
Url = Annotated[str, typer.Option(envvar="VIDEOPURE_URL", help="TorchServe's inference address.")]
ManagementUrl = Annotated[
    str, typer.Option(envvar="VIDEOPURE_MANAGEMENT_URL", help="TorchServe's management address.")
]
Model = Annotated[str, typer.Option(help="The model's name.")]
KeyFile = Annotated[
    Path, typer.Option(envvar="VIDEOPURE_KEY_FILE", help="Written where TorchServe was started.")
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
