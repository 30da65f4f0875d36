"""`videopure serve`: a TorchServe in the foreground."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from videopure.cli.options import ARCHIVE, DEFAULT_MODEL, DEFAULT_URL, RequiredKey
from videopure.cli.terminal import console, fail, own_command
from videopure.client.errors import ClientError
from videopure.launcher.java import JavaNotFoundError
from videopure.launcher.ports import addresses
from videopure.launcher.server import TorchServe

__all__ = ["serve"]


def serve(
    archive: Annotated[Path, typer.Option(help="Archive to serve.")] = ARCHIVE,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Workers to start.", show_default="from the configuration"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port of predictions. Management, metrics and the two ports of gRPC are the next "
            "four.",
            show_default="from the configuration",
        ),
    ] = None,
    bind: Annotated[
        str | None,
        typer.Option(
            help="IPv4 address that answers predictions, such as 0.0.0.0. Management and metrics "
            "stay on 127.0.0.1.",
            show_default="from the configuration",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Properties file.",
            exists=True,
            dir_okay=False,
            show_default="./config.properties, or the packaged one",
        ),
    ] = None,
    require_signature: RequiredKey = None,
) -> None:
    """Serve an archive in the foreground until Ctrl-C."""
    environment = _signed(archive, require_signature) if require_signature else {}
    server = TorchServe(
        archive,
        config=config,
        overrides=_addresses(bind, port),
        workers=workers,
        environment=environment,
    )
    # Ctrl-C, SIGTERM and a closed terminal all end up in the `finally` below; the first is
    # ignored by default where a script starts the server in the background.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with console.status("Starting TorchServe and waiting for ready workers"):
            server.start()
            server.wait_until_ready()
        _announce(server)
        server.wait()
    except KeyboardInterrupt:
        console.print("Stopping")
    except (ClientError, JavaNotFoundError) as error:
        raise fail(str(error)) from error
    finally:
        server.stop()


def _addresses(bind: str | None, port: int | None) -> dict[str, str]:
    """The properties that --bind and --port replace."""
    if bind is None and port is None:
        return {}
    try:
        return addresses(bind or "127.0.0.1", port)
    except ValueError as error:
        raise fail(str(error), code=2) from error


def _announce(server: TorchServe) -> None:
    """Say where the server answers, and how to ask it."""
    url = server.client().inference_url
    asking = f"{own_command()} predict VIDEOS"
    if url != DEFAULT_URL:
        asking += f" --url {url}"
    if server.model != DEFAULT_MODEL:
        asking += f" --model {server.model}"
    for line in (
        f"Ready: {url}/predictions/{server.model}",
        f"Try it from this folder: {asking}",
        f"Keys: {server.folder / 'key_file.json'}   Log: {server.log_file}",
    ):
        console.print(line, soft_wrap=True, highlight=False)
    if server.is_open:
        console.print(
            "[yellow]Warning:[/yellow] other machines reach it over plain HTTP, which exposes keys "
            "and videos to the network: put a proxy with TLS in front (docs/production.md).",
            highlight=False,
        )
    console.print("Ctrl-C stops the server.")


def _signed(archive: Path, public_key: Path) -> dict[str, str]:
    """Check the archive before TorchServe opens it, and set up each worker to check it again."""
    with console.status("Checking the archive and its signature"):
        from videopure.format.manifest import ManifestError
        from videopure.format.opening import verify_archive
        from videopure.format.settings import SettingsError
        from videopure.handler.torchserve import REQUIRED_SIGNATURE

        try:
            verify_archive(archive, public_key)
        except (ManifestError, SettingsError) as error:
            raise fail(str(error)) from error
    return {REQUIRED_SIGNATURE: str(public_key.resolve())}
