"""Harden the demo's models: `python -m videopure.demo.harden`.

The stages follow one another: recogniser, both, control, calibrate; `both` and `control` start from
`recogniser` and can run at the same time. A stage that is interrupted goes on where it was; a
finished one is not repeated. Archives and checkpoints lie in build/harden-demo; delete that folder
to start afresh.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from rich.console import Console
from torch import nn

from videopure.archive import build_archive
from videopure.demo.calibrate import calibrated
from videopure.format.opening import unpacked
from videopure.motions import BUNDLE, CONTROL, HARDENED
from videopure.motions.bundle_files import BundleSettings, load_defended, save_pipeline
from videopure.motions.clips import Stream
from videopure.motions.dataset import vary
from videopure.training.adversarial import HardenRecipe
from videopure.training.compact import assemble, fit_codec
from videopure.training.harden import harden
from videopure.training.loop import step_generator

__all__ = ["STAGES", "harden_demo", "main"]

STAGES = ("recogniser", "both", "control", "calibrate")

# One step from a level that leaves room for changes of a few pixel levels, nothing drawn.
ONE_LOOK = {
    "method": "one_look",
    "inversion_steps": 3,
    "one_look": {"entry": "plain", "guided": False},
}
CODEC_SEED, CODEC_CLIPS = 100, 1500
CALIBRATION_CLIPS = 400
CARD = """---
license: apache-2.0
---

# demo-hardened

A compact video purifier for the demo's clips: a codec of 8x8 patches and a `UNet3DConditionModel`,
for `method: one_look`. It begins as the identity (`python -m videopure.demo.harden`) and is no
diffusion model to generate with: it knows one noise level.
"""

# First attacks of two steps, which are quick to learn.
_QUICK: dict[str, Any] = {"clips": 800, "epsilon": 8, "first_epsilon": 4, "growth": 0.2, "seed": 1}
# Then longer attacks of a budget beyond the one that is to be withstood.
_LONG: dict[str, Any] = {
    "clips": 800,
    "epsilon": 10,
    "first_epsilon": 7,
    "growth": 0.2,
    "attack_steps": 7,
    "seed": 3,
    "validate_every": 25,
    "validation_clips": 20,
    "validation_steps": 20,
    "validation_epsilon": 8,
}
RECIPES: dict[str, tuple[HardenRecipe, ...]] = {
    "recogniser": (HardenRecipe(train="recogniser", bare=True, clips=5000, epsilon=8),),
    "both": (HardenRecipe(**_QUICK, fidelity=0.0), HardenRecipe(**_LONG)),
    # The same clips and attacks without a purifier.
    "control": tuple(
        HardenRecipe(train="recogniser", bare=True, **recipe) for recipe in (_QUICK, _LONG)
    ),
}


def still_purifier(folder: Path) -> Path:
    """Write a pipeline that changes nothing yet: hardening begins with it.

    Patches of 8x8 pixels make the latents a quarter of the published demo's, and a network on them
    is trained through within the hour. Its last layer is zero, so it predicts no noise.
    """
    stream, generator = Stream("train"), step_generator(CODEC_SEED, 0)
    frames = []
    for number in range(CODEC_CLIPS):
        clip, label = stream.clip(number)
        video = torch.from_numpy(clip).permute(0, 3, 1, 2)  # [T, 3, H, W]
        varied, _ = vary(video, torch.tensor(label), generator)
        frames.append(varied[torch.randint(len(varied), (1,), generator=generator)])
    codec = fit_codec(torch.cat(frames).float() / 127.5 - 1, patch=8, channels=64)
    torch.manual_seed(CODEC_SEED)
    pipeline = assemble(codec, "S")
    for parameter in pipeline.unet.conv_out.parameters():
        nn.init.zeros_(parameter)
    save_pipeline(pipeline.unet, codec, folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


def harden_demo(folder: Path, stages: tuple[str, ...] = STAGES, bundle: Path = BUNDLE) -> None:
    """Run the stages that are not finished yet, and write their results into the bundle."""
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        console.print(f"{stage} ...")
        if stage == "calibrate":
            _calibrate(bundle)
            continue
        archive = _start(folder, stage)
        for number, recipe in enumerate(RECIPES[stage], start=1):
            before, archive = archive, folder / f"{stage}-{number}.mar"
            if not archive.exists():
                state = PartialState(cpu=not torch.cuda.is_available())
                harden(before, "demo", archive, recipe, state=state, report=console.print)
        if stage == "both":
            _take(archive, bundle / HARDENED.name, ("recogniser", "pipeline"))
        elif stage == "control":
            _take(archive, bundle / CONTROL.name, ("recogniser",))


def _start(folder: Path, stage: str) -> Path:
    """The archive that a stage begins with."""
    alone = folder / f"recogniser-{len(RECIPES['recogniser'])}.mar"
    if stage == "control":
        return alone
    start = folder / f"{stage}-0.mar"
    if start.exists():
        return start
    if stage == "recogniser":
        settings = BundleSettings.read().archive_settings()
        return build_archive(BUNDLE / "recogniser", BUNDLE / "pipeline", start, settings=settings)
    pipeline = still_purifier(folder / "pipeline")
    section = {"purification": ONE_LOOK}
    with unpacked(alone) as root:
        return build_archive(root / "recogniser", pipeline, start, settings=section)


def _take(archive: Path, bundle: Path, parts: tuple[str, ...]) -> None:
    """Copy models out of an archive."""
    with unpacked(archive) as root:
        for part in parts:
            shutil.rmtree(bundle / part, ignore_errors=True)
            shutil.copytree(root / part, bundle / part)


def _calibrate(bundle: Path) -> None:
    """Calibrate the thresholds of the served models."""
    settings = BundleSettings(ONE_LOOK, {})
    defended = load_defended(bundle / HARDENED.name, settings.purify_settings())
    calibrated(settings, defended, CALIBRATION_CLIPS).write(bundle / HARDENED.name)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="videopure.demo.harden", description=__doc__)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--folder", type=Path, default=Path("build/harden-demo"))
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--threads", type=int, help="CPU threads to use")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    harden_demo(arguments.folder, tuple(arguments.stages), arguments.bundle)


if __name__ == "__main__":
    main()
