"""`videopure web`: a page in the browser to try clips on a running server."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videopure.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_URL,
    KeyFile,
    ManagementUrl,
    Model,
    Url,
)
from videopure.cli.terminal import console, errors, fail
from videopure.client.api import VideoPureClient
from videopure.wire.installing import install_hint

if TYPE_CHECKING:
    from videopure.web.attacking import Attacker

__all__ = ["web"]

_SHORTEST_TOKEN = 16  # characters
# Not near any port of TorchServe.
_PORT = 8090


def web(
    url: Url = DEFAULT_URL,
    management_url: ManagementUrl = "http://127.0.0.1:8081",
    model: Model = DEFAULT_MODEL,
    key_file: KeyFile = Path("key_file.json"),
    archive: Annotated[
        Path | None,
        typer.Option(
            help="The archive that is served. With it, clips can be attacked on the page, on this "
            "machine.",
            show_default="no attacks",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page.")] = _PORT,
    bind: Annotated[
        str,
        typer.Option(
            help="Address of the page. If others can reach it, as 0.0.0.0, it asks for a token."
        ),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="VIDEOPURE_WEB_TOKEN",
            help="Token that the page asks for. Set the variable instead of the option: other "
            "users of the machine can read a command's options.",
            show_default="none on this machine; otherwise a new one",
        ),
    ] = None,
) -> None:
    """Serve a page to try clips on a running server, until Ctrl-C.

    The page shows the answers with and without VideoPure, what purification
    changed, the votes and the suspicion. It uses the operator's key next to the
    key file: anyone who can open the page sees everything.
    """
    try:
        from videopure.web.app import make_app
        from videopure.web.asking import Asker
        from videopure.web.guard import is_loopback
        from videopure.web.serving import listen, run
    except ModuleNotFoundError as error:
        raise fail(f"the page needs {error.name}: {install_hint('web')}") from error

    local = is_loopback(bind)
    if token is None and not local:
        token = secrets.token_urlsafe(24)
    elif token is not None and len(token) < _SHORTEST_TOKEN:
        raise fail(f"--token must have {_SHORTEST_TOKEN} characters or more", code=2)
    try:
        listening = listen(bind, port)
    except (OSError, OverflowError) as error:
        raise fail(f"the page cannot listen on {bind}, port {port}: {error}") from error
    attacker = _attacker(archive) if archive is not None else None
    with (
        listening,
        VideoPureClient(url, management_url, model=model, key_file=key_file) as client,
    ):
        asker = Asker(client)
        with errors.status("Asking the server"):
            problem = asker.about()["problem"]
        _announce(bind, listening.getsockname()[1], token, local)
        if problem is not None:
            errors.print(f"[yellow]Warning:[/yellow] {problem}", highlight=False, soft_wrap=True)
        elif not asker.is_operator:
            errors.print(
                f"[yellow]Warning:[/yellow] there is no operator's key "
                f"{client.operator_key_file}, so the server tells less: start the page in the "
                "folder of `videopure serve`, or give its --key-file",
                highlight=False,
                soft_wrap=True,
            )
        run(make_app(asker, attacker, token=token, local=local), listening)


def _attacker(archive: Path) -> Attacker:
    from videopure.evaluation.store import EvaluationError
    from videopure.web.attacking import Attacker

    with errors.status("Loading the models to attack"):
        try:
            return Attacker.of_archive(archive)
        except EvaluationError as error:
            raise fail(str(error)) from error


def _announce(bind: str, port: int, token: str | None, local: bool) -> None:
    host = "127.0.0.1" if bind in ("0.0.0.0", "::") else bind
    host = f"[{host.strip('[]')}]" if ":" in host else host
    # Browsers keep what follows the #: no log and no other site gets it.
    address = f"http://{host}:{port}/" + (f"#token={token}" if token else "")
    console.print(f"Page: {address}", soft_wrap=True, highlight=False)
    if not local:
        console.print(
            "[yellow]Warning:[/yellow] other machines reach the page over plain HTTP: put a proxy "
            "with TLS in front.",
            highlight=False,
        )
    console.print("Ctrl-C stops the page.")
