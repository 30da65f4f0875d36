"""Trains a compact purifier on unlabelled videos, for a recogniser's frame size and count."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from videopure.archive.recognisers import find_recogniser, store_recogniser
from videopure.archive.spec import BuildSpec
from videopure.archive.staging import Staging
from videopure.evaluation.metrics import psnr
from videopure.evaluation.report.html import check_tools
from videopure.evaluation.store import disk_faults
from videopure.evaluation.videos import find_videos
from videopure.format.settings import Limits
from videopure.motions.bundle_files import save_pipeline
from videopure.purifier import Recogniser, VideoPurePipeline, load_recogniser
from videopure.purifier.networks.patch_codec import PatchCodec
from videopure.training.cards import purifier_card
from videopure.training.compact import SIZES, Size, assemble, fit_codec
from videopure.training.decoded import DecodedClips, decode_videos
from videopure.training.loop import Question, step_generator
from videopure.training.pictures import learning_curve, purified_samples
from videopure.training.precision import Precision, half_dtype
from videopure.training.unet import (
    TrainedUNet,
    UNetRecipe,
    UNetTrainer,
    denoising_psnr,
    train_unet,
)

__all__ = ["Trained", "load_codec", "recogniser_of", "train"]

Report = Callable[[str], object]
CODECS = {kind.__name__: kind for kind in (AutoencoderKL, AutoencoderTiny, PatchCodec)}
DEFAULT_LIMITS = Limits()

_IMAGES = 1500  # to fit a codec of principal components to
_CHECKED = 40  # clips of validation
_SHOWN = 6  # clips in the picture
_STRIDE = 20  # train steps between visited noise levels


@dataclass(frozen=True)
class Trained:
    """The result of training.

    Args:
        pipeline: the diffusers folder that was written.
        workplace: where log and pictures are.
        videos: number of videos trained on.
        skipped: what is wrong with each video that was left out.
        found: log and validation of the training; see `TrainedUNet`.
        codec_psnr: dB of held-out clips through the codec alone.
        psnr: dB of held-out clips restored in one step, by train step.
        parameters: number of the UNet's parameters.
    """

    pipeline: Path
    workplace: Path
    videos: int
    skipped: tuple[str, ...]
    found: TrainedUNet
    codec_psnr: float
    psnr: dict[int, float]
    parameters: int


def train(
    videos: str | Path,
    recogniser: Recogniser,
    out: Path,
    recipe: UNetRecipe | None = None,
    *,
    size: Size = "S",
    codec: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    views: int = 3,
    precision: Precision = "auto",
    licence: str | None = None,
    workers: int = 1,
    workplace: Path | None = None,
    state: PartialState | None = None,
    report: Report = lambda step: None,
) -> Trained:
    """Write a diffusers folder that `videopure build` takes as its pipeline.

    A stopped run resumes when it is called again with the same arguments.

    Args:
        videos: see `find_videos`; labels are ignored.
        recogniser: defines number, size and framing of the frames; see `recogniser_of`.
        out: the folder to write; if it holds a pipeline, it is replaced.
        recipe: how to train.
        size: size of the UNet and, where no codec is given, of the codec.
        codec: folder of an AutoencoderKL, AutoencoderTiny or PatchCodec, or of a pipeline with
            one; principal components of the videos' patches by default.
        limits: limits of the server.
        views: clips taken from each video.
        precision: see `half_dtype`.
        licence: licence of the trained model, for its card.
        workers: processes that decode, and threads that make batches; 0 does both in this process.
        workplace: folder of clips, checkpoint, log and pictures; next to `out` by default.
        state: this process among several.
        report: called with the name of each step as it starts.

    Raises:
        ClipError: if the videos cannot be trained on.
        EvaluationError: if the plotting packages are not installed, or the disk is full.
        ValueError: naming what else cannot be used.
    """
    check_tools()  # for the pictures, before hours of training
    recipe = recipe or UNetRecipe()
    recipe = replace(recipe, warm_up=min(recipe.warm_up, recipe.steps // 10))
    _check_out(out)
    chosen = _check_size(recogniser, size, codec)
    state = state or PartialState(cpu=not torch.cuda.is_available())
    half_dtype(precision, state.device)  # fails if the chip does not have it
    place = workplace or out.with_name(f"{out.name}.training")
    files = [file.path for file in find_videos(videos, labelled=False)]
    report(f"Reading {len(files)} videos")
    with state.main_process_first():
        clips = decode_videos(
            *(files, recogniser, place / "clips"),
            limits=limits,
            views=views,
            workers=workers,
            shown=state.is_main_process,
        )
    if chosen is None:
        report("Fitting the codec")
        images = clips.images(_IMAGES, step_generator(recipe.seed, -2))
        chosen = fit_codec(images, SIZES[size].patch, SIZES[size].channels)
    torch.manual_seed(recipe.seed)
    pipeline = assemble(chosen, size)
    held_out, _ = clips.validation(_CHECKED)
    trainer = UNetTrainer(*(pipeline, clips, held_out, recipe, state, precision), threads=workers)
    report(f"Training {_parameters(pipeline):,} parameters on {len(clips.training)} videos")
    asked = {**asdict(recipe), "size": size, "codec": str(codec), "clips": _name(clips)}
    with disk_faults(place):
        found = train_unet(trainer, place / "checkpoint.pt", question=Question(asked))
    trained = _judge(pipeline, clips, held_out, found, recipe, out, place)
    if state.is_main_process:
        report("Writing the pipeline")
        with disk_faults(out.parent):
            _write(pipeline, trained, held_out, recipe, licence)
    state.wait_for_everyone()
    return trained


def recogniser_of(where: str, **given: Any) -> Recogniser:
    """A recogniser for its frames, from whatever `videopure build` takes as one.

    Args:
        where: folder, hub id, `torchvision:NAME` or program.
        given: further fields of `BuildSpec`, such as `weights`.

    Raises:
        BuildError: if there is no recogniser.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "staging"
        spec = BuildSpec(recogniser=where, pipeline="", out=Path("videopure.mar"), **given)
        staging = Staging.of(spec, root, lambda step: None)
        stored = store_recogniser(spec, find_recogniser(spec), staging)
        return load_recogniser(root / "recogniser", trusted_program=stored.program)


def load_codec(folder: Path) -> Any:
    """The image codec in a folder, or in that of a pipeline.

    Raises:
        ValueError: if there is no codec of a supported class.
    """
    place = folder / "vae" if (folder / "vae").is_dir() else folder
    try:
        name = json.loads((place / "config.json").read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"codec {place} has no config.json of a diffusers model: {error}"
        ) from error
    if name not in CODECS:
        raise ValueError(f"codec {place} is of class {name}, not of {', '.join(CODECS)}")
    return CODECS[name].from_pretrained(
        place, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32
    )


def _check_out(out: Path) -> None:
    if out.exists() and not (out / "model_index.json").is_file():
        raise ValueError(f"out {out} exists and is not a pipeline: name another folder")


def _check_size(recogniser: Recogniser, size: Size, codec: Path | None) -> Any:
    """The given codec, if any; unusable settings fail here, before hours of training."""
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
    loaded = None if codec is None else load_codec(codec)
    # With another codec, the trial of the pipeline checks this.
    patch = SIZES[size].patch if loaded is None else 1
    height, width = recogniser.frame_size
    if height % patch or width % patch:
        raise ValueError(
            f"recogniser {recogniser.name!r} takes frames of {width}x{height} pixels, and size "
            f"{size} needs multiples of {patch}: use size M, or give your own codec"
        )
    if recogniser.num_frames < 2:
        raise ValueError(
            f"recogniser {recogniser.name!r} takes {recogniser.num_frames} frame; purification "
            "needs at least 2"
        )
    return loaded


def _judge(
    pipeline: VideoPurePipeline,
    clips: DecodedClips,
    held_out: Tensor,
    found: TrainedUNet,
    recipe: UNetRecipe,
    out: Path,
    place: Path,
) -> Trained:
    """Measure the trained model on the held-out clips."""
    with torch.no_grad():
        decoded = pipeline.decode(pipeline.encode(held_out.to(pipeline.device))).cpu()
    levels = range(1, recipe.max_timestep + 1, _STRIDE)
    return Trained(
        pipeline=out,
        workplace=place,
        videos=len(clips.training),
        skipped=clips.skipped,
        found=found,
        codec_psnr=psnr(decoded.flatten(0, 1), held_out.flatten(0, 1)),
        psnr={t: round(denoising_psnr(pipeline, held_out, t, seed=0), 2) for t in levels},
        parameters=_parameters(pipeline),
    )


def _write(
    pipeline: VideoPurePipeline,
    trained: Trained,
    held_out: Tensor,
    recipe: UNetRecipe,
    licence: str | None,
) -> None:
    """Write the pipeline, replacing an older one, and the log and pictures."""
    out, place = trained.pipeline, trained.workplace
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    save_pipeline(pipeline.unet.cpu(), pipeline.vae.cpu(), part)
    (part / "README.md").write_text(purifier_card(trained, recipe, licence), encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    part.replace(out)
    found = trained.found
    log = {
        "recipe": asdict(recipe),
        "parameters": trained.parameters,
        "videos": trained.videos,
        "skipped": list(trained.skipped),
        "seconds": round(found.log.seconds, 1),
        "resumed": found.log.resumed,
        "precision": found.precision,
        "waiting": round(found.waiting, 4),
        "codec_psnr_db": round(trained.codec_psnr, 2),
        "one_step_psnr_db": trained.psnr,
        "curve": found.log.curve,
        "validation": found.validation,
    }
    (place / "log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    (place / "curve.png").write_bytes(learning_curve(found.log.curve, found.validation))
    (place / "samples.png").write_bytes(_samples(pipeline, held_out[:_SHOWN]))


def _samples(pipeline: VideoPurePipeline, clips: Tensor) -> bytes:
    """Clips with noise of 8/255, and their purified versions."""
    pipeline.to("cpu")
    pipeline.set_progress_bar_config(disable=True)
    signs = torch.randn(clips.shape, generator=step_generator(0, 0)).sign()
    noisy = (clips + signs * 8 / 255).clamp(0, 1)
    purified, _, _ = pipeline(noisy, inversion_steps=1, return_dict=False)
    return purified_samples(clips, noisy, purified[:, -1])


def _parameters(pipeline: VideoPurePipeline) -> int:
    return sum(parameter.numel() for parameter in pipeline.unet.parameters())


def _name(clips: DecodedClips) -> str:
    """What distinguishes these clips from others: their number and shape."""
    return f"{len(clips.training)}+{len(clips.held_out)} of {list(clips.frames.shape[1:])}"
