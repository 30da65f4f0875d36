"""The `videopure` command line."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from videopure.client import build_commands
from videopure.client.api import ClientError, VideoPureClient
from videopure.client.build_commands import ARCHIVE
from videopure.client.java import JavaNotFoundError
from videopure.client.server import TorchServe
from videopure.client.terminal import console, errors, fail

__all__ = ["app", "main"]

app = typer.Typer(
    help="Serve a video recogniser that adversarial clips cannot fool.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
build_commands.register(app)


@app.command()
def serve(
    archive: Annotated[Path, typer.Option(help="Archive to serve.")] = ARCHIVE,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers to start.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Properties file [default: ./config.properties]")
    ] = None,
) -> None:
    """Serve an archive in the foreground until Ctrl-C."""
    server = TorchServe(archive, config=config, workers=workers)
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


@app.command()
def predict(
    videos: Annotated[list[Path], typer.Argument(help="Video files.", exists=True, dir_okay=False)],
    url: Annotated[str, typer.Option(help="Where the server listens.")] = "http://127.0.0.1:8080",
    model: Annotated[str, typer.Option(help="The model's name.")] = "videopure",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON answer a line.")] = False,
) -> None:
    """Ask a running server what videos show. Run it where the server's key_file.json lies."""
    answers: list[tuple[Path, dict[str, Any] | str]] = []
    with VideoPureClient(url, model=model) as client:
        for video in videos:
            try:
                with errors.status(f"Asking about {video}"):
                    answers.append((video, client.predict(video)))
            except ClientError as error:
                answers.append((video, str(error)))
    failed = any(isinstance(answer, str) for _, answer in answers)
    if as_json:
        for video, answer in answers:
            body = {"error": answer} if isinstance(answer, str) else answer
            print(json.dumps({"file": os.fspath(video), **body}))
    else:
        console.print(_answer_table(answers))
    raise typer.Exit(int(failed))


def _answer_table(answers: list[tuple[Path, dict[str, Any] | str]]) -> Table:
    headings = ("video", "VideoPure", "bare recogniser", "votes", "suspicion", "ms")
    table = Table(*headings, box=SIMPLE, pad_edge=False, collapse_padding=True)
    for video, answer in answers:
        if isinstance(answer, str):
            table.add_row(video.name, f"[red]{escape(answer)}[/red]")
            continue
        best, bare = answer["predictions"][0], answer["undefended"]
        votes, suspicion = answer["votes"], answer["suspicion"]
        table.add_row(
            video.name,
            f"{best['label']} {best['score']:.2f}",
            f"{bare['label']} {bare['score']:.2f}",
            f"{votes['counted']} of {votes['of']}" if votes else "",
            f"{suspicion['score']:.2f}" if suspicion else "",
            f"{answer['timing_ms']['total']:.0f}",
        )
    return table


def main() -> None:
    """Entry point of the `videopure` command."""
    app()
