"""Train the demo bundle: `python -m videopure.demo.train`.

The stages follow one another: codec, recogniser, transfer, unet, calibrate. An interrupted stage
resumes; a finished one is not repeated. Checkpoints are in build/train-demo; delete that folder to
start afresh.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from accelerate import PartialState
from rich.console import Console
from torch import nn

from videopure.demo.calibrate import calibrated
from videopure.motions import BUNDLE
from videopure.motions.bundle_files import (
    BundleSettings,
    load_defended,
    save_pipeline,
    save_recogniser,
)
from videopure.motions.clips import CLASSES, Stream
from videopure.motions.dataset import TrainingClips, load_split
from videopure.purifier.networks.motion_recogniser import MotionResNet3d, MotionTransformer
from videopure.purifier.networks.patch_codec import PatchCodec
from videopure.training.compact import SIZES, assemble, fit_codec
from videopure.training.loop import StageLog, step_generator
from videopure.training.precision import Precision, half_dtype
from videopure.training.recogniser import RecogniserRecipe, accuracy, train_recogniser
from videopure.training.unet import UNetRecipe, UNetTrainer, denoising_psnr, train_unet

__all__ = ["STAGES", "main", "train"]

STAGES = ("codec", "recogniser", "transfer", "unet", "calibrate")
LIBRARIES = ("torch", "diffusers", "numpy", "opencv-python-headless", "safetensors")

CODEC_SEED = 100
# Factor of the latents for the diffusion model: the smaller, the more each noise level covers.
# At 0.6 the levels t = 21 .. 61 are well above perturbations of 4/255 to 8/255.
SCALING_FACTOR = 0.6
# The noise that leaves the best simple filter furthest behind VideoPure on the validation stream;
# see the model card.
RECOGNISER = RecogniserRecipe(seed=101, steps=600, max_noise_sigma=0.015)
TRANSFER = RecogniserRecipe(seed=102, steps=2200, learning_rate=1e-3)
UNET = UNetRecipe(seed=103, steps=3600)
TRAINING_CLIPS = 6000
CODEC_IMAGES = 1500
VALIDATION_CLIPS = 40
CALIBRATION_CLIPS = 400

# Chosen on the validation stream; see the model card.
PURIFICATION = {"inversion_steps": 1, "guidance_reference": [32, 4, 56, 28]}


@dataclass(frozen=True)
class Workplace:
    """The folder of a training run, and its files."""

    folder: Path
    bundle: Path
    device: torch.device
    compiled: bool
    precision: Precision = "auto"
    recogniser_noise: float = RECOGNISER.max_noise_sigma

    @property
    def log_file(self) -> Path:
        """The stages' reports, kept between runs."""
        return self.folder / "log.json"

    def read_log(self) -> dict[str, Any]:
        """Reports of the stages so far."""
        if not self.log_file.exists():
            return {}
        log: dict[str, Any] = json.loads(self.log_file.read_text(encoding="utf-8"))
        return log

    def report(self, stage: str, entry: dict[str, Any]) -> None:
        """Record a stage, with the libraries and the machine it ran on, also in the bundle."""
        entry = {
            **entry,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "libraries": {name: version(name) for name in LIBRARIES},
        }
        text = json.dumps({**self.read_log(), stage: entry}, indent=1) + "\n"
        for path in (self.log_file, self.bundle / "training_log.json"):
            path.write_text(text, encoding="utf-8")


def train_codec(place: Workplace, clips: TrainingClips) -> None:
    """Fit the latent codec."""
    generator = step_generator(CODEC_SEED, 0)
    varied, _ = clips.batch(CODEC_IMAGES, generator)
    picks = torch.randint(varied.shape[1], (len(varied),), generator=generator)
    images = varied[torch.arange(len(varied)), picks] * 2 - 1  # one frame of each
    codec = fit_codec(images, SIZES["M"].patch, SIZES["M"].channels, SCALING_FACTOR)
    codec.save_pretrained(place.folder / "codec")
    frames, _ = load_split(Stream("validation"), 0, 50)
    with torch.no_grad():
        error = codec(frames.flatten(0, 1) * 2 - 1).sample / 2 + 0.5 - frames.flatten(0, 1)
    psnr = float(-10 * torch.log10(error.square().mean()))
    place.report("codec", {"seed": CODEC_SEED, "validation_psnr_db": round(psnr, 2)})


def train_one_recogniser(place: Workplace, clips: TrainingClips, stage: str) -> None:
    """Train a recogniser and write it into the bundle."""
    recipe = TRANSFER
    if stage == "recogniser":
        recipe = replace(RECOGNISER, max_noise_sigma=place.recogniser_noise)
    torch.manual_seed(recipe.seed)
    network: nn.Module
    if stage == "recogniser":
        name, folder, architecture = "motion-resnet3d", "recogniser", {"width": 32}
        network = MotionResNet3d(len(CLASSES), **architecture)
    else:
        name, folder, architecture = "motion-transformer", "recogniser_transfer", {"width": 24}
        network = MotionTransformer(len(CLASSES), **architecture)
    checkpoint = place.folder / f"{stage}.pt"
    half = half_dtype(place.precision, place.device)
    log = train_recogniser(network, clips, recipe, checkpoint, stage, place.device, half)
    network.cpu()
    save_recogniser(network, name, architecture, place.bundle / folder)
    reached = accuracy(network, Stream("validation"), 400)
    place.report(stage, {**_entry(recipe, log), "validation_accuracy": reached})


def train_the_unet(place: Workplace, clips: TrainingClips) -> None:
    """Train the diffusion model and write the pipeline into the bundle."""
    torch.manual_seed(UNET.seed)
    pipeline = assemble(_codec(place), "M")
    held_out, _ = load_split(Stream("validation"), 0, VALIDATION_CLIPS)
    state = PartialState(cpu=place.device.type == "cpu")
    trainer = UNetTrainer(
        *(pipeline, clips, held_out, UNET, state, place.precision), compiled=place.compiled
    )
    found = train_unet(trainer, place.folder / "unet.pt")
    save_pipeline(pipeline.unet.cpu(), _codec(place), place.bundle / "pipeline")
    BundleSettings(PURIFICATION, {}).write(place.bundle)
    psnr = {
        str(t): round(denoising_psnr(pipeline, held_out[:20], t, seed=0), 2)
        for t in (1, 21, 41, 61, 81, 101)
    }
    validated = {"validation": found.validation, "validation_one_step_psnr_db": psnr}
    waiting = round(found.waiting, 4)
    place.report("unet", {**_entry(UNET, found.log), "waiting": waiting, **validated})


def calibrate(place: Workplace) -> None:
    """Find the suspicion thresholds of the present bundle."""
    settings = BundleSettings(PURIFICATION, {})
    defended = load_defended(place.bundle, settings.purify_settings()).to(place.device)
    found = calibrated(settings, defended, CALIBRATION_CLIPS)
    found.write(place.bundle)
    thresholds = {"suspicion": found.suspicion_thresholds, "change": found.change_thresholds}
    place.report("calibrate", {"clips": CALIBRATION_CLIPS, "thresholds": thresholds})


def train(place: Workplace, stages: tuple[str, ...] = STAGES) -> None:
    """Run the stages that are not finished yet."""
    place.folder.mkdir(parents=True, exist_ok=True)
    place.bundle.mkdir(parents=True, exist_ok=True)
    console = Console()
    for stage in stages:
        if stage in place.read_log():
            console.print(f"{stage}: finished before")
            continue
        console.print(f"{stage} ...")
        if stage == "calibrate":
            calibrate(place)
            continue
        clips = TrainingClips.prepare(place.folder, TRAINING_CLIPS)
        if stage == "codec":
            train_codec(place, clips)
        elif stage in ("recogniser", "transfer"):
            train_one_recogniser(place, clips, stage)
        else:
            train_the_unet(place, clips)


def _codec(place: Workplace) -> PatchCodec:
    codec: PatchCodec = PatchCodec.from_pretrained(place.folder / "codec", local_files_only=True)
    return codec


def _entry(recipe: RecogniserRecipe | UNetRecipe, log: StageLog) -> dict[str, Any]:
    return {
        "recipe": asdict(recipe),
        "training_clips": TRAINING_CLIPS,
        "seconds": round(log.seconds),
        "resumed": log.resumed,
        "curve": log.curve,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="videopure.demo.train", description=__doc__)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--folder", type=Path, default=Path("build/train-demo"))
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--threads", type=int, help="CPU threads to use")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the UNet for training: needs a C++ compiler, takes a third off every step",
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="auto",
        help="auto computes in bfloat16 on a GPU that has it, and in float32 elsewhere",
    )
    parser.add_argument(
        "--recogniser-noise",
        type=float,
        default=RECOGNISER.max_noise_sigma,
        help="largest sigma of the noise on the recogniser's training clips, in 0..1",
    )
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place = Workplace(
        arguments.folder,
        arguments.bundle,
        device,
        arguments.compile,
        arguments.precision,
        arguments.recogniser_noise,
    )
    train(place, tuple(arguments.stages))


if __name__ == "__main__":
    main()
