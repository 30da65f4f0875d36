"""`videopure key`: renews TorchServe's key for the proxy in front of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from videopure.cli.options import DEFAULT_MODEL, KeyFile, ManagementUrl
from videopure.cli.terminal import console, errors, explained, fail
from videopure.client.api import VideoPureClient
from videopure.client.errors import ClientError

__all__ = ["key"]

Form = Literal["nginx", "text"]
_RETRY_SECONDS = 5.0


def key(
    out: Annotated[Path, typer.Argument(help="File to write the key to, with mode 600.")],
    form: Annotated[
        Form, typer.Option("--format", help="nginx: a line for `include`; text: only the key.")
    ] = "nginx",
    every: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Keep renewing, at this interval in seconds: less than token_expiration_min of "
            "config.properties. Waits for the server if there is none yet.",
        ),
    ] = None,
    management_url: ManagementUrl = "http://127.0.0.1:8081",
    key_file: KeyFile = Path("key_file.json"),
) -> None:
    """Renew the key of predictions and write it for a proxy.

    TorchServe refuses the previous key at once, so let the proxy read the file without delay.
    """
    with VideoPureClient(management_url=management_url, key_file=key_file) as client:
        while True:
            try:
                _write(out, _FORMS[form].format(client.renew_key()))
            except ClientError as error:
                if every is None:
                    raise fail(explained(error, DEFAULT_MODEL)) from error
                errors.print(f"Trying again: {error}", highlight=False, markup=False)
                time.sleep(_RETRY_SECONDS)
                continue
            except OSError as error:
                raise fail(f"the key cannot be written to {out}: {error}") from error
            if every is None:
                return
            console.print(f"Renewed the key in {out}", highlight=False)
            time.sleep(every)


_FORMS: dict[Form, str] = {
    "nginx": 'proxy_set_header Authorization "Bearer {}";\n',
    "text": "{}\n",
}


def _write(path: Path, text: str) -> None:
    """Replace a file atomically: a proxy that reads it meanwhile sees the old key or the new one.

    Raises:
        OSError: if it cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
