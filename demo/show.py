"""What `make demo` shows: clean and attacked clips, and the answers of three lines of defence."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers.utils.logging import disable_progress_bar
from rich.console import Console
from rich.progress import track
from torch import Tensor

from videopure.client.api import VideoPureClient
from videopure.demo.drawing import Shown, picture, table
from videopure.demo.samples import to_pixels
from videopure.evaluation.archives import load_evaluated
from videopure.evaluation.attacks.losses import cross_entropy, lead, soft_vote
from videopure.evaluation.attacks.pgd import pgd
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import TorchServe
from videopure.motions.bundle_files import load_defended
from videopure.motions.clips import CLASSES, Stream, write_video
from videopure.motions.dataset import load_split
from videopure.purifier import DefendedRecogniser
from videopure.wire.schemas import Answer

__all__ = ["EPSILON", "attack", "show"]

EPSILON = 4 / 255
GRAY_STEPS, WHITE_STEPS = 10, 20


class Line(NamedTuple):
    """A line of defence: who answers, and the logits whose gradient each attack follows."""

    name: str
    gray: Callable[[Tensor], Tensor]  # for an attacker who knows only the recogniser
    white: Callable[[Tensor], Tensor]  # for one who has everything
    answer: Callable[[Tensor], list[str]] | None  # None: the server answers


def lines(plain: DefendedRecogniser, served: DefendedRecogniser) -> tuple[Line, Line, Line]:
    """The recogniser alone, VideoPure as published, and what the archive serves."""
    alone = plain.recogniser.logits

    def everything(defended: DefendedRecogniser) -> Callable[[Tensor], Tensor]:
        return lambda clips: soft_vote(defended.votes(clips))

    def answer(defended: DefendedRecogniser) -> Callable[[Tensor], list[str]]:
        return lambda clips: [CLASSES[v.label_id] for v in defended.answer(clips).verdicts]

    @torch.no_grad()
    def answer_alone(clips: Tensor) -> list[str]:
        return [CLASSES[k] for k in alone(clips).argmax(dim=1).tolist()]

    return (
        Line("alone", alone, alone, answer_alone),
        Line("published", alone, everything(plain), answer(plain)),
        Line("served", served.recogniser.logits, everything(served), None),
    )


def attack(
    logits: Callable[[Tensor], Tensor], clips: Tensor, labels: Tensor, steps: int, seed: int
) -> Tensor:
    """PGD at 4/255 on a model's logits, as 8-bit pixels: [B, T, 3, H, W] in 0..1.

    It stops when a wrong class leads clearly on every clip.
    """

    def loss(shown: Tensor) -> Tensor:
        values = logits(shown)
        return cross_entropy(values, labels).masked_fill(lead(values, labels) < -1, torch.inf)

    attacked = pgd(
        loss,
        clips,
        epsilon=EPSILON,
        steps=steps,
        step_size=EPSILON / 4,
        generator=torch.Generator().manual_seed(seed),
    )
    return (attacked * 255).round() / 255


def show(archive: Path, out: Path, *, count: int = 3, start: int = 0, seed: int = 0) -> None:
    """Attack clips of the test stream, serve the archive, send clean and attacked clips.

    Args:
        archive: the demo's archive.
        out: folder for the clips sent, the picture and the server's log.
        count: number of clips.
        start: number of the first clip in the test stream.
        seed: seed of the attacks' random start.
    """
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    disable_progress_bar()  # diffusers': loading takes less than a second
    with console.status("Loading the models"):
        served = load_evaluated(archive, torch.device("cpu")).defended
        three = lines(load_defended(), served)
        clips, labels = load_split(Stream("test"), start, count)
    shown = _attack_all(three, clips, labels, seed, console)
    server = TorchServe(archive, folder=out, overrides=free_addresses())
    with console.status("Starting TorchServe and waiting for a ready worker"):
        server.start()
    try:
        with console.status("Starting TorchServe and waiting for a ready worker"):
            server.wait_until_ready()
        with server.client() as client:
            for one in track(shown, description="Asking the server", console=console):
                one.served = _ask(client, one, out)
    finally:
        with console.status("Stopping TorchServe"):
            server.stop()
    with console.status("Drawing the picture"):
        example = _example(shown)
        purified = served.purify(example[-1].clips["served"][None])[0]
        drawn = picture(example, purified, out / "demo.png")
    console.print(table(shown))
    console.print(
        "gray-box: up to 10 steps of PGD by an attacker who knows only the recogniser.\n"
        "white-box: up to 20 steps through the whole defence, by one who has the archive.\n"
        "Each defence is attacked separately; no pixel changes by more than 4/255.\n"
        "!: called adversarial. ms: time of the served answer, over HTTP."
    )
    console.print(f"Picture: {drawn}   Clips sent: {out}/*.mp4", highlight=False)
    console.print("`make serve` leaves a server running; README.md says how to send it videos.")


def _attack_all(
    three: tuple[Line, ...], clips: Tensor, labels: Tensor, seed: int, console: Console
) -> list[Shown]:
    """Every clip under every attacker, with the answers of all lines except the served one."""
    shown = [Shown(n, "clean", CLASSES[y]) for n, y in enumerate(labels.tolist())]
    kinds = {"clean": shown}
    for kind in ("gray-box", "white-box"):
        kinds[kind] = [Shown(one.number, kind, one.truth) for one in shown]
    work = [(kind, line) for kind in kinds for line in three]
    for kind, line in track(work, description="Attacking", console=console):
        attacked = clips
        if kind == "gray-box":
            attacked = attack(line.gray, clips, labels, GRAY_STEPS, seed)
        elif kind == "white-box":
            attacked = attack(line.white, clips, labels, WHITE_STEPS, seed)
        for one, clip in zip(kinds[kind], attacked, strict=True):
            one.clips[line.name] = clip
        if line.answer is not None:
            for one, label in zip(kinds[kind], line.answer(attacked), strict=True):
                one.labels[line.name] = label
    return [kinds[kind][number] for number in range(len(clips)) for kind in kinds]


def _ask(client: VideoPureClient, one: Shown, folder: Path) -> tuple[Answer, float]:
    """Write a clip as a lossless mp4 and send it to the server: its answer, and milliseconds."""
    name = f"{one.truth.replace(' ', '-')}-{one.kind}.mp4"
    path = write_video(to_pixels(one.clips["served"]), folder / name)
    start = time.perf_counter()
    answer = client.predict(path)
    return answer, 1000 * (time.perf_counter() - start)


def _example(shown: list[Shown]) -> list[Shown]:
    """A clip, clean and attacked, on which the lines differ; the first one if there is none."""
    by_clip = [shown[k : k + 3] for k in range(0, len(shown), 3)]

    def telling(rows: list[Shown]) -> int:
        """How many of the demo's claims this clip shows."""
        _, gray, white = rows
        return sum(
            (
                gray.labels["alone"] != gray.truth,
                gray.labels["published"] == gray.truth,
                white.labels["published"] != white.truth,
                white.answer.predictions[0].label == white.truth,
            )
        )

    return max(by_clip, key=telling)
