"""`videopure predict`: which action each of many videos shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from videopure.cli.answers import Result, print_csv, print_json, print_table
from videopure.cli.options import DEFAULT_MODEL, DEFAULT_URL, AsJson, KeyFile, Model, Url
from videopure.cli.terminal import errors, explained, fail
from videopure.client.api import VideoPureClient
from videopure.client.errors import (
    ClientError,
    ConnectionLostError,
    KeyFileError,
    ModelNotFoundError,
    NotTorchServeError,
    ServerUnreachableError,
)

__all__ = ["evidence_names", "find_videos", "predict"]

SUFFIXES = frozenset(
    f".{ending}"
    for ending in ("mp4", "m4v", "mov", "mkv", "webm", "avi", "gif", "mpg", "mpeg", "ts", "flv")
)
# Errors that every video of the call would meet. A lost connection may concern only one.
_OF_THE_CALL = (ServerUnreachableError, KeyFileError, NotTorchServeError, ModelNotFoundError)


def predict(
    videos: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    url: Url = DEFAULT_URL,
    model: Model = DEFAULT_MODEL,
    key_file: KeyFile = Path("key_file.json"),
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, one line per video.")] = False,
    save_purified: Annotated[
        Path | None,
        typer.Option(help="Folder for videos of the clip as sent, purified, and the difference."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Predictions in each answer.")] = None,
    inversion_steps: Annotated[
        int | None, typer.Option(help="Steps of inversion, the paper's t.")
    ] = None,
    votes: Annotated[
        str | None, typer.Option(help="early (stop once the label is settled) or full.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="videopure, one_look, ddim_inversion, ddim, ddpm.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of methods that draw noise.")] = None,
    clips: Annotated[
        int | None, typer.Option(help="Number of equal parts of each video to use.")
    ] = None,
    purify: Annotated[
        bool, typer.Option(help="Purify the video, or ask only the bare recogniser.")
    ] = True,
    concurrency: Annotated[int, typer.Option(min=1, help="Videos sent at a time.")] = 4,
    header: Annotated[
        list[str] | None,
        typer.Option(help="'Name: value' of a header that your proxy asks for; repeatable."),
    ] = None,
) -> None:
    """Ask a running server which action each video shows.

    Exit code 0: all videos were answered; 1: some were not; 2: wrong usage.
    """
    if as_json and as_csv:
        raise fail("give --json or --csv, not both", code=2)
    files = find_videos(videos)
    options = {
        "top_k": top_k,
        "inversion_steps": inversion_steps,
        "votes": votes,
        "method": method,
        "seed": seed,
        "clips": clips,
        "purify": None if purify else False,
    }
    chosen = {name: value for name, value in options.items() if value is not None}
    if save_purified is not None:
        save_purified.mkdir(parents=True, exist_ok=True)
    headers = _headers(header or [])
    with VideoPureClient(url, model=model, key_file=key_file, headers=headers) as client:
        results = _ask(client, files, chosen, save_purified, concurrency)
        show = print_json if as_json else print_csv if as_csv else print_table
        try:
            failed = show(results)
        except ClientError as error:
            raise fail(explained(error, model)) from error
    raise typer.Exit(int(failed))


def _headers(lines: Sequence[str]) -> dict[str, str]:
    pairs = [line.partition(":") for line in lines]
    if wrong := [name for name, colon, _ in pairs if not (name.strip() and colon)]:
        # Only part of it: it may be a secret.
        raise fail(f"--header must be 'Name: value', got {wrong[0][:20]!r}", code=2)
    return {name.strip(): value.strip() for name, _, value in pairs}


def find_videos(arguments: Sequence[str]) -> list[Path]:
    """The files to send: of a folder, the videos below it; of a glob, what it matches.

    Raises:
        typer.Exit: after reporting an argument that names no video.
    """
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            below = [path]
        else:
            below = [Path(p) for p in sorted(glob(argument, recursive=True)) if Path(p).is_file()]
        if not below:
            raise fail(f"no video at {argument}", code=2)
        found += below
    return list(dict.fromkeys(found))


def _ask(
    client: VideoPureClient,
    files: Sequence[Path],
    options: dict[str, Any],
    save: Path | None,
    concurrency: int,
) -> Iterator[tuple[Path, Result]]:
    """Files and answers in order, with a progress bar; evidence is saved under `save`.

    Raises:
        ClientError: for the whole call, such as a missing server: nothing more is sent.
    """
    names = evidence_names(files)

    def ask(numbered: tuple[int, Path]) -> Result:
        number, file = numbered
        try:
            if save is None:
                return client.predict(file, **options)
            evidence = client.explain(file, **options)
            (save / names[number]).write_bytes(evidence.video)
            return evidence.answer
        except (ClientError, OSError) as error:
            return error

    columns = (TextColumn("Asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=errors, transient=True) as progress,
        ThreadPoolExecutor(concurrency) as pool,
    ):
        task = progress.add_task("", total=len(files))
        for file, result in zip(files, pool.map(ask, enumerate(files)), strict=True):
            if isinstance(result, _OF_THE_CALL) and not isinstance(result, ConnectionLostError):
                pool.shutdown(wait=False, cancel_futures=True)
                raise result
            progress.advance(task)
            yield file, result


def evidence_names(files: Sequence[Path]) -> list[str]:
    """A unique name for the evidence of each file: files of several folders may share a name."""
    names: list[str] = []
    taken: set[str] = set()  # lower case: some file systems ignore case
    for file in files:
        candidates = chain([file.stem], (f"{file.stem}-{number}" for number in count(2)))
        name = next(name for name in candidates if name.lower() not in taken)
        taken.add(name.lower())
        names.append(f"{name}-purified.mp4")
    return names
