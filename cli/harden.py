"""`videopure harden`: train what an archive serves against attackers who have it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from videopure.cli.options import ARCHIVE, HOW, STOPPED, Seed, Threads, labelled_clips
from videopure.cli.terminal import console, errors, fail, tell_skipped

if TYPE_CHECKING:  # imports torch, which takes seconds
    from videopure.training.harden import Hardened

__all__ = ["harden"]

_FIDELITY = 5.0
WHAT, SERVED = "What is trained, on what", "What will be served"

Out = Annotated[
    Path | None,
    typer.Option(help="Archive to write; ARCHIVE with -hardened by default.", rich_help_panel=WHAT),
]
TrainOption = Annotated[
    str, typer.Option(help="purifier, recogniser or both.", rich_help_panel=WHAT)
]
Data = Annotated[str, labelled_clips(WHAT)]
Bare = Annotated[
    bool,
    typer.Option(
        "--bare",
        help="With --train recogniser: attack it as if there were no purifier. The control.",
        rich_help_panel=WHAT,
    ),
]
Unlabelled = Annotated[
    bool,
    typer.Option(
        "--unlabelled",
        help="Use the recogniser's own answers to the clean clips as labels.",
        rich_help_panel=WHAT,
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        help="Purification to train through and to serve, such as one_look, which is cheap.",
        show_default="the archive's",
        rich_help_panel=SERVED,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--inversion-steps",
        min=0,
        help="The paper's t; for one_look, the noise level.",
        show_default="the archive's",
        rich_help_panel=SERVED,
    ),
]
Clips = Annotated[int, typer.Option(min=1, help="Clips to attack in total.", rich_help_panel=HOW)]
Batch = Annotated[int, typer.Option(min=1, help="Clips per step.", rich_help_panel=HOW)]
Epsilon = Annotated[
    float,
    typer.Option(help="Highest budget of the training attack, in 1/255.", rich_help_panel=HOW),
]
AttackSteps = Annotated[
    int, typer.Option(min=1, help="Steps of the training attack, PGD.", rich_help_panel=HOW)
]
Fidelity = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Weight of the difference between purified and attacked clips, where the purifier is "
        "trained.",
        show_default="5",
        rich_help_panel=HOW,
    ),
]
Rate = Annotated[float, typer.Option(help="Highest learning rate.", rich_help_panel=HOW)]
Every = Annotated[
    int, typer.Option(min=1, help="Steps from one validation to the next.", rich_help_panel=HOW)
]
Checked = Annotated[int, typer.Option(min=1, help="Clips to validate on.", rich_help_panel=HOW)]
Workplace = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the checkpoint.", show_default="next to the archive", rich_help_panel=HOW
    ),
]


def harden(
    archive: Annotated[
        Path, typer.Argument(help="Archive to harden; it is not changed.")
    ] = ARCHIVE,
    out: Out = None,
    train: TrainOption = "both",
    bare: Bare = False,
    data: Data = "demo",
    unlabelled: Unlabelled = False,
    method: MethodOption = None,
    inversion_steps: Steps = None,
    clips: Clips = 8000,
    batch: Batch = 16,
    epsilon: Epsilon = 6.0,
    attack_steps: AttackSteps = 2,
    fidelity: Fidelity = None,
    learning_rate: Rate = 1e-3,
    validate_every: Every = 50,
    validation_clips: Checked = 40,
    seed: Seed = 0,
    threads: Threads = 2,
    workplace: Workplace = None,
) -> None:
    """Train what an archive serves against attackers who have the archive, into a new archive.

    Clips are attacked through everything that is served, and the trained models learn to answer
    them correctly. To resume a stopped run, give the same command again.

    Several processes, on as many GPUs where there are any:
    `torchrun --standalone --nproc_per_node 2 $(which videopure) harden`.
    """
    if fidelity is not None and (bare or train == "recogniser"):
        given = "--bare" if bare else "--train recogniser"
        raise fail(
            f"--fidelity keeps the purifier close to its clips, but {given} trains no purifier",
            code=2,
        )
    with errors.status("Loading torch"):
        import torch
        from accelerate import PartialState

        from videopure.training.adversarial import HardenRecipe
        from videopure.training.harden import harden as harden_archive

    out = out or archive.with_name(f"{archive.stem}-hardened.mar")
    asked: dict[str, Any] = {"method": method, "inversion_steps": inversion_steps}
    torch.set_num_threads(threads)
    try:
        recipe = HardenRecipe(
            train=train,  # type: ignore[arg-type]  # it checks the name itself
            bare=bare,
            clips=clips,
            batch=batch,
            epsilon=epsilon,
            first_epsilon=min(1.0, epsilon),
            attack_steps=attack_steps,
            fidelity=_FIDELITY if fidelity is None else fidelity,
            learning_rate=learning_rate,
            validate_every=validate_every,
            validation_clips=validation_clips,
            seed=seed,
        )
        # Processes wait for the one that packs.
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(hours=2))
        output = console if state.is_main_process else Console(quiet=True)
        result = harden_archive(
            archive,
            data,
            out,
            recipe,
            purification={key: value for key, value in asked.items() if value is not None},
            labelled=not unlabelled,
            workplace=workplace,
            state=state,
            report=output.print,
        )
    except ValueError as error:
        raise fail(str(error)) from error
    except KeyboardInterrupt:
        errors.print("Stopped. Run the same command to resume.")
        raise typer.Exit(STOPPED) from None
    _print(result, recipe.validation_steps, recipe.validation_epsilon, output)
    tell_skipped(result.skipped)


def _print(result: Hardened, steps: int, epsilon: float, output: Console) -> None:
    for name, found in (("before", result.before), ("after", result.after)):
        output.print(f"{name}: {found.describe(steps, epsilon)}")
    output.print(f"Hardened archive: {result.archive}", soft_wrap=True)
    output.print("Next: videopure evaluate, which attacks harder and on other clips.")
