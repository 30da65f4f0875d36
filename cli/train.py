"""`videopure train`: a compact purifier for your own clips."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from videopure.cli.options import HOW, STOPPED, Seed, Threads
from videopure.cli.terminal import console, errors, fail, tell_skipped

if TYPE_CHECKING:  # imports torch, which takes seconds
    from videopure.format.settings import Limits
    from videopure.purifier import Recogniser
    from videopure.training.train import Trained

__all__ = ["train"]

FOR, WHAT = "For which recogniser", "What is trained"

Videos = Annotated[
    Path,
    typer.Argument(help="Folder of videos, a CSV with the column path, or a list (.txt) of paths."),
]
RecogniserOption = Annotated[
    str | None,
    typer.Option(
        "--recogniser",
        help="Recogniser whose number, size and framing of frames are used: folder or hub id, "
        "torchvision:NAME, or a program, as for `videopure build`.",
        rich_help_panel=FOR,
    ),
]
ArchiveOption = Annotated[
    Path | None,
    typer.Option("--archive", help="Archive whose recogniser is used.", rich_help_panel=FOR),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Weights of torchvision:NAME, as for build.", rich_help_panel=FOR),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--recogniser-config", help="YAML of a program, as for build.", rich_help_panel=FOR
    ),
]
TrustProgram = Annotated[
    bool,
    typer.Option("--trust-program", help="Accept a program, which is code.", rich_help_panel=FOR),
]
Out = Annotated[
    Path, typer.Option(help="Folder to write, for build --pipeline.", rich_help_panel=WHAT)
]
SizeOption = Annotated[
    str,
    typer.Option(
        "--size",
        help="S: cheapest. M: the demo's, finer. L: for a GPU.",
        rich_help_panel=WHAT,
    ),
]
Codec = Annotated[
    Path | None,
    typer.Option(
        help="Folder of an AutoencoderKL or AutoencoderTiny, or of a pipeline with one.",
        show_default="principal components of your videos' patches",
        rich_help_panel=WHAT,
    ),
]
Licence = Annotated[
    str | None,
    typer.Option(help="Licence of the trained model, for its card.", rich_help_panel=WHAT),
]
Clips = Annotated[int, typer.Option(min=1, help="Clips to train on in total.", rich_help_panel=HOW)]
Batch = Annotated[int, typer.Option(min=1, help="Clips per step.", rich_help_panel=HOW)]
Rate = Annotated[float, typer.Option(help="Highest learning rate.", rich_help_panel=HOW)]
Most = Annotated[
    int,
    typer.Option(
        "--max-inversion-steps",
        min=0,
        max=48,
        help="The highest of the paper's t that will be served: higher noise is not learned.",
        rich_help_panel=HOW,
    ),
]
Views = Annotated[
    int, typer.Option(min=1, help="Clips taken from each video.", rich_help_panel=HOW)
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        help="auto: bfloat16 on a GPU that has it, float32 elsewhere. Or one of the two.",
        rich_help_panel=HOW,
    ),
]
Every = Annotated[
    int, typer.Option(min=1, help="Steps from one validation to the next.", rich_help_panel=HOW)
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes that decode, and threads that make batches.",
        show_default="one less than there are cores",
        rich_help_panel=HOW,
    ),
]
Workplace = Annotated[
    Path | None,
    typer.Option(
        help="Folder of decoded clips, checkpoint, log and pictures.",
        show_default="next to the pipeline",
        rich_help_panel=HOW,
    ),
]


def train(
    videos: Videos,
    recogniser: RecogniserOption = None,
    archive: ArchiveOption = None,
    out: Out = Path("purifier"),
    size: SizeOption = "S",
    codec: Codec = None,
    licence: Licence = None,
    weights: Weights = None,
    recogniser_config: Config = None,
    trust_program: TrustProgram = False,
    clips: Clips = 16000,
    batch: Batch = 8,
    learning_rate: Rate = 1e-3,
    max_inversion_steps: Most = 5,
    views: Views = 3,
    precision: PrecisionOption = "auto",
    validate_every: Every = 200,
    seed: Seed = 0,
    threads: Threads = 2,
    workers: Workers = None,
    workplace: Workplace = None,
) -> None:
    """Train a compact purifier on your own videos, without labels.

    Videos are decoded once; those that cannot be read are skipped, and listed at the end. To resume
    a stopped run, give the same command again.

    Several processes, on as many GPUs where there are any:
    `torchrun --standalone --nproc_per_node 2 $(which videopure) train VIDEOS ...`.
    """
    with errors.status("Loading torch"):
        import torch
        from accelerate import PartialState

        from videopure.training.train import train as train_purifier
        from videopure.training.unet import UNetRecipe

    torch.set_num_threads(threads)
    given = {
        "weights": weights,
        "recogniser_config": recogniser_config,
        "trust_program": trust_program,
    }
    try:
        recipe = UNetRecipe(
            seed=seed,
            steps=-(-clips // batch),
            batch=batch,
            learning_rate=learning_rate,
            max_timestep=20 * (max_inversion_steps + 1),  # of 50 levels among 1000 steps
            validate_every=validate_every,
        )
        found, limits = _recogniser(recogniser, archive, given)
        # Processes wait for the one that decodes.
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1))
        output = console if state.is_main_process else Console(quiet=True)
        result = train_purifier(
            videos,
            found,
            out,
            recipe,
            size=size,  # type: ignore[arg-type]  # it checks the name itself
            codec=codec,
            limits=limits,
            views=views,
            precision=precision,  # type: ignore[arg-type]  # as above
            licence=licence,
            workers=workers or max(1, (os.cpu_count() or 2) - 1),
            workplace=workplace,
            state=state,
            report=output.print,
        )
    except ValueError as error:
        raise fail(str(error)) from error
    except KeyboardInterrupt:
        errors.print("Stopped. Run the same command to resume.")
        raise typer.Exit(STOPPED) from None
    if state.is_main_process:
        _print(result)
        tell_skipped(result.skipped)


def _recogniser(
    where: str | None, archive: Path | None, given: dict[str, Any]
) -> tuple[Recogniser, Limits]:
    """The chosen recogniser, and the limits of videos that go with it."""
    import torch

    from videopure.evaluation.archives import load_evaluated
    from videopure.format.settings import Limits
    from videopure.training.train import recogniser_of

    if (where is None) == (archive is None):
        raise fail("give either --recogniser or --archive", code=2)
    if archive is not None:
        loaded = load_evaluated(archive, torch.device("cpu"))
        return loaded.defended.recogniser, loaded.settings.limits
    return recogniser_of(str(where), **given), Limits()


def _print(result: Trained) -> None:
    found = result.found
    levels = ", ".join(f"{psnr:g} dB at {timestep}" for timestep, psnr in result.psnr.items())
    console.print(
        f"Trained on {result.videos} videos in {found.log.seconds / 60:.1f} min, in "
        f"{found.precision}; {found.waiting:.1%} of it waiting for clips",
        highlight=False,
    )
    console.print(
        f"Held-out videos: {result.codec_psnr:.1f} dB through the codec; restored in one step from "
        f"the noise of a train step: {levels}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Pipeline: {result.pipeline}", soft_wrap=True)
    console.print(f"Log, curve.png and samples.png: {result.workplace}", soft_wrap=True)
    console.print(
        f"Next: videopure build --recogniser RECOGNISER --pipeline {result.pipeline}",
        soft_wrap=True,
    )
