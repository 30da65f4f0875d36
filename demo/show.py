"""What `make demo` shows: clean and attacked clips, answered with and without VideoPure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers.utils.logging import disable_progress_bar
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table
from torch import Tensor

from videopure.client.api import VideoPureClient
from videopure.demo.samples import to_pixels
from videopure.evaluation.attacks.losses import label_loss
from videopure.evaluation.attacks.pgd import pgd
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.motions import BUNDLE
from videopure.motions.bundle_files import load_defended
from videopure.motions.clips import CLASSES, Stream, write_video
from videopure.motions.dataset import load_split
from videopure.purifier import Recogniser
from videopure.wire.schemas import Answer, Prediction

__all__ = ["Shown", "attack", "show"]

EPSILON = 8 / 255
PGD_STEPS = 10


@dataclass
class Shown:
    """One clip of the demo, clean and attacked, and the server's answers to both."""

    truth: int
    clean: Tensor  # [T, 3, H, W] in 0..1
    attacked: Tensor
    answers: dict[str, Answer] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)

    @property
    def shows_the_defence(self) -> bool:
        """Whether the attack fooled the bare recogniser and VideoPure answered rightly."""
        answer, truth = self.answers["attacked"], CLASSES[self.truth]
        assert answer.undefended is not None  # the demo asks as the operator
        fooled = answer.undefended.label != truth
        return fooled and answer.predictions[0].label == truth


def attack(
    recogniser: Recogniser, clips: Tensor, labels: Tensor, seed: int, console: Console
) -> Tensor:
    """PGD-10 at 8/255 on the bare recogniser, as 8-bit pixels: [B, T, 3, H, W] in 0..1."""
    with Progress(console=console) as progress:
        task = progress.add_task("Attacking the bare recogniser", total=PGD_STEPS)
        attacked = pgd(
            label_loss(recogniser.logits, labels),
            clips,
            epsilon=EPSILON,
            steps=PGD_STEPS,
            generator=torch.Generator().manual_seed(seed),
            on_step=lambda: progress.advance(task),
        )
    return (attacked * 255).round() / 255


def send(client: VideoPureClient, shown: Shown, kind: str, clip: Tensor, folder: Path) -> None:
    """Write a clip as a lossless mp4, send it to the server and keep the answer."""
    name = f"{CLASSES[shown.truth].replace(' ', '-')}-{kind}.mp4"
    path = write_video(to_pixels(clip), folder / name)
    start = time.perf_counter()
    shown.answers[kind] = client.predict(path)
    shown.milliseconds[kind] = 1000 * (time.perf_counter() - start)


def table(clips: list[Shown]) -> Table:
    """The answers side by side."""
    # Fits 80 columns.
    result = Table(
        title="What each clip shows, and what the server answered",
        box=SIMPLE,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
    )
    for heading in ("clip", "truth", "bare recogniser", "VideoPure", "votes", "suspicion", "ms"):
        result.add_column(heading, justify="right" if heading == "ms" else "left", no_wrap=True)
    for shown in clips:
        truth = CLASSES[shown.truth]
        for kind, answer in shown.answers.items():
            votes, suspicion = answer.votes, answer.suspicion
            # The demo asks as the operator, and for purified answers only.
            assert votes is not None
            assert suspicion is not None
            assert suspicion.score is not None
            assert answer.undefended is not None
            agreeing = round(votes.agreement * votes.counted)
            result.add_row(
                kind,
                truth,
                _answer(answer.undefended, truth),
                _answer(answer.predictions[0], truth),
                f"{agreeing} of {votes.counted}",
                f"{suspicion.score:.2f}{' !' if suspicion.adversarial else ''}",
                f"{shown.milliseconds[kind]:.0f}",
                end_section=kind == "attacked",
            )
    return result


def _answer(prediction: Prediction, truth: str) -> str:
    colour, mark = ("green", "✓") if prediction.label == truth else ("red", "✗")
    return f"[{colour}]{mark} {prediction.label}[/{colour}]"


def picture(shown: Shown, purified: Tensor, path: Path) -> Path:
    """Original, attacked and purified frames of one clip, with the answers to them.

    `purified` is the attacked clip after purification, [T, 3, H, W] in 0..1.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    answers, truth = shown.answers, CLASSES[shown.truth]
    rows = (
        ("original", shown.clean, "bare recogniser", answers["clean"].undefended),
        ("attacked", shown.attacked, "bare recogniser", answers["attacked"].undefended),
        ("purified", purified, "VideoPure", answers["attacked"].predictions[0]),
    )
    picks = torch.linspace(0, len(shown.clean) - 1, 8).round().long().tolist()
    figure = pyplot.figure(figsize=(9, 5), layout="constrained")
    figure.suptitle(f"The clip shows: {truth}")
    for part, (name, clip, who, prediction) in zip(figure.subfigures(3), rows, strict=True):
        assert prediction is not None  # the demo asks as the operator
        part.suptitle(
            f"{name}: {who} says “{prediction.label}” ({prediction.score:.2f})",
            fontsize=10,
            color="tab:green" if prediction.label == truth else "tab:red",
        )
        for axis, frame in zip(part.subplots(1, len(picks)), picks, strict=True):
            axis.imshow(clip[frame].permute(1, 2, 0).numpy())  # [H, W, 3]
            axis.set_axis_off()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def show(archive: Path, out: Path, *, count: int = 4, start: int = 0, seed: int = 0) -> None:
    """Attack clips of the test stream, serve the archive, send clean and attacked clips.

    Args:
        archive: the demo's archive.
        out: folder for the clips sent, the picture and the server's log.
        count: how many clips.
        start: number of the first clip in the test stream.
        seed: of the attack's random start.
    """
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    disable_progress_bar()  # of diffusers: loading takes less than a second
    with console.status("Loading the recogniser"):
        defended = load_defended(BUNDLE)
        clips, labels = load_split(Stream("test"), start, count)
    attacked = attack(defended.recogniser, clips, labels, seed, console)
    shown = [
        Shown(int(label), clip, bad)
        for label, clip, bad in zip(labels, clips, attacked, strict=True)
    ]
    server = TorchServe(archive, folder=out, overrides=free_addresses())
    with console.status("Starting TorchServe and waiting for a ready worker"):
        server.start()
    try:
        with console.status("Starting TorchServe and waiting for a ready worker"):
            server.wait_until_ready()
        with server.client() as client:
            for one in track(shown, description="Asking the server", console=console):
                send(client, one, "clean", one.clean, out)
                send(client, one, "attacked", one.attacked, out)
    finally:
        with console.status("Stopping TorchServe"):
            server.stop()
    with console.status("Drawing the picture"):
        example = next((one for one in shown if one.shows_the_defence), shown[0])
        purified = defended.purify(example.attacked[None])[0]
        drawn = picture(example, purified, out / "demo.png")
    console.print(table(shown))
    console.print(
        "attacked: PGD, 10 steps, at most 8/255 of a pixel's range, made just now against the bare "
        "recogniser.\nvotes: those that agree with the answer, of those counted until no other "
        "label could win.\n!: called adversarial."
    )
    console.print(f"Picture: {drawn}   Clips sent: {out}/*.mp4", highlight=False)
    console.print("`make serve` leaves a server running; README.md says how to send it videos.")
