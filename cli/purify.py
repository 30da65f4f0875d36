"""`videopure purify`: a purified copy of a video, without a server."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from videopure.cli.options import ARCHIVE, Archive, AsJson
from videopure.cli.terminal import console, errors, fail

if TYPE_CHECKING:
    from videopure.purifier import DefendedRecogniser

__all__ = ["purify"]


def purify(
    source: Annotated[Path, typer.Argument(help="The video.", exists=True, dir_okay=False)],
    target: Annotated[Path, typer.Argument(help="The purified copy: .mp4, .mkv, .mov ...")],
    archive: Archive = ARCHIVE,
    window: Annotated[
        int | None,
        typer.Option(
            min=2, help="Frames purified together.", show_default="as many as the recogniser takes"
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda or cuda:1.", show_default="a GPU if there is one"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing copy.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a purified copy of a video, with the models of an archive and no server.

    The copy has the video's frames and size, at a constant rate, in H.264 without sound.
    """
    if target.exists() and not force:
        raise fail(f"{target} exists; --force replaces it", code=2)
    if not archive.exists():
        raise fail(f"there is no archive {archive}: build it with `videopure build`")
    with errors.status("Loading the models"):
        import torch

        from videopure.cli.rewrite import RewriteError, rewrite_video

        try:
            chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except RuntimeError as error:
            raise fail(f"--device {device} is none: cpu, cuda or cuda:1", code=2) from error
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise fail(f"--device {device} cannot be used: torch finds no GPU")
        defended = _load(archive, chosen)
    columns = (TextColumn("Purifying"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    part = target.with_name(f".{target.name}.part{target.suffix}")
    try:
        with Progress(*columns, console=errors, transient=True) as progress:
            task = progress.add_task("", total=None)
            written = rewrite_video(
                source,
                part,
                defended.purify,
                window or defended.recogniser.num_frames,
                defended.pipeline.vae_scale_factor,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
        part.replace(target)
    except RewriteError as error:
        raise fail(str(error)) from error
    finally:
        part.unlink(missing_ok=True)
    if as_json:
        told = {**asdict(written), "rate": float(written.rate), "file": str(target)}
        print(json.dumps(told))
        return
    console.print(
        f"Wrote {target}: {written.frames} frames, {written.width}x{written.height}, "
        f"{float(written.rate):g} frames a second, without sound",
        highlight=False,
        soft_wrap=True,
    )


def _load(archive: Path, device: object) -> DefendedRecogniser:
    """The archive's models, checked against its manifest, on a `torch.device`."""
    import torch

    from videopure.format.loading import load_archive
    from videopure.format.manifest import ManifestError
    from videopure.format.settings import SettingsError

    assert isinstance(device, torch.device)
    try:
        return load_archive(archive, device).defended
    except (ManifestError, SettingsError, OSError) as error:
        raise fail(f"{archive} cannot be used: {error}") from error
