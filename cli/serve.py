"""`videopure serve`: a TorchServe in the foreground."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from videopure.cli.options import ARCHIVE, RequiredKey
from videopure.cli.terminal import console, fail
from videopure.client.errors import ClientError
from videopure.launcher.java import JavaNotFoundError
from videopure.launcher.server import TorchServe

__all__ = ["serve"]


def serve(
    archive: Annotated[Path, typer.Option(help="Archive to serve.")] = ARCHIVE,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Workers to start.", show_default="as the configuration says"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Properties file.",
            exists=True,
            dir_okay=False,
            show_default="./config.properties, else the packaged one",
        ),
    ] = None,
    require_signature: RequiredKey = None,
) -> None:
    """Serve an archive in the foreground until Ctrl-C."""
    environment = _signed(archive, require_signature) if require_signature else {}
    server = TorchServe(archive, config=config, workers=workers, environment=environment)
    # Ctrl-C, SIGTERM and a closed terminal all end up in the `finally` below; the first is
    # ignored by default where a script starts the server in the background.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with console.status("Starting TorchServe and waiting for ready workers"):
            server.start()
            server.wait_until_ready()
        url = server.client().inference_url
        console.print(f"Ready: POST videos to {url}/predictions/{server.model}")
        console.print(f"Keys: {server.folder / 'key_file.json'}   Log: {server.log_file}")
        console.print("Ctrl-C stops the server.")
        server.wait()
    except KeyboardInterrupt:
        console.print("Stopping")
    except (ClientError, JavaNotFoundError) as error:
        raise fail(str(error)) from error
    finally:
        server.stop()


def _signed(archive: Path, public_key: Path) -> dict[str, str]:
    """Check the archive before TorchServe opens it; what makes each worker check it again."""
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
