"""`videopure purify`: a purified copy of a video, without a server."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videopure.cli.meter import WorkMeter
from videopure.cli.options import ARCHIVE, Archive, AsJson
from videopure.cli.terminal import console, errors, fail

if TYPE_CHECKING:
    import torch

    from videopure.bulk.rewrite import Rewritten
    from videopure.format.loading import LoadedArchive

__all__ = ["purify"]

# Warnings of the models' libraries about configurations that are not theirs.
_DISLIKED = (AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)


def purify(
    source: Annotated[Path, typer.Argument(help="The video.", exists=True, dir_okay=False)],
    target: Annotated[
        Path, typer.Argument(help="The purified copy: .mp4, .m4v, .mov, .mkv or .webm.")
    ],
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

    The copy has the video's frames, upright and with their durations, in H.264, or VP9 for .webm.
    It has no sound. It reads the same videos as the server.
    """
    from videopure.bulk.rewrite import TARGETS, RewriteError, rewrite_video

    if target.suffix.lower() not in TARGETS:
        raise fail(f"{target} cannot be written: end it in {', '.join(TARGETS)}", code=2)
    if target.exists() and not force:
        raise fail(f"{target} exists; --force replaces it", code=2)
    if not archive.exists():
        raise fail(f"there is no archive {archive}: build it with `videopure build`")
    with errors.status("Loading the models"):
        loaded = _load(archive, _device(device))
    defended = loaded.defended
    together = window or defended.recogniser.num_frames
    part = target.with_name(f".{target.name}.part{target.suffix}")
    try:
        with WorkMeter(defended, together) as meter:
            written = rewrite_video(
                source,
                part,
                defended.purify,
                together,
                defended.pipeline.frame_multiple,
                meter.frames_done,
            )
        part.replace(target)
    except RewriteError as error:
        raise fail(str(error)) from error
    finally:
        part.unlink(missing_ok=True)
    unlike = _unlike(source, loaded)
    if unlike:
        written = replace(written, warnings=[*written.warnings, unlike])
    _tell(target, written, as_json=as_json)


def _tell(target: Path, written: Rewritten, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**asdict(written), "file": str(target)}))
        return
    sound = "; its sound is left out" if written.sound else ", without sound"
    console.print(
        f"Wrote {target}: {written.frames} frames, {written.width}x{written.height}, "
        f"{written.rate:.6g} frames a second, {written.seconds:.6g} s{sound}",
        highlight=False,
        soft_wrap=True,
    )
    for warning in written.warnings:
        errors.print(f"Warning: {warning}", highlight=False, soft_wrap=True)


def _unlike(source: Path, loaded: LoadedArchive) -> str | None:
    """A warning if the purifier was not trained on such clips, from a clip as served."""
    from videopure.evaluation.videos import ClipError, read_video

    defended, settings = loaded.defended, loaded.settings
    threshold = settings.purification.change_threshold
    if threshold is None or settings.outdated_calibration:
        return None
    try:
        clip = read_video(source, defended.recogniser, settings.limits)
    except ClipError:  # longer than the server's limits allow
        return None
    (verdict,) = defended.answer(clip.frames[None]).verdicts
    if verdict.change is None or verdict.change <= threshold:
        return None
    return (
        "the video is unlike those the purifier was trained on, and purification may have removed "
        "what matters in it: look at the copy before you use it"
    )


def _device(name: str | None) -> torch.device:
    import torch

    try:
        chosen = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise fail(f"--device must be cpu, cuda or cuda:1, got {name}", code=2) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise fail(f"--device {name} cannot be used: torch finds no GPU")
    return chosen


def _load(archive: Path, device: torch.device) -> LoadedArchive:
    """The archive's models, checked against its manifest."""
    from safetensors import SafetensorError

    from videopure.format.loading import load_archive
    from videopure.format.manifest import ManifestError
    from videopure.format.settings import SettingsError

    try:
        return load_archive(archive, device)
    except (ManifestError, SettingsError, OSError) as error:
        raise fail(f"{archive} cannot be used: {error}") from error
    except (*_DISLIKED, SafetensorError) as error:
        raise fail(f"{archive} cannot be used: {type(error).__name__}: {error}") from error
