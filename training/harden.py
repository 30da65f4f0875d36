"""Hardens an archive: trains what it serves against attackers who have it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from videopure.archive.amend import repack, replace_weights
from videopure.archive.spec import BuildError
from videopure.format.loading import load_folder
from videopure.format.manifest import CONFIG_NAME, Hardening, Manifest
from videopure.format.opening import digest_archive, unpacked
from videopure.format.settings import ModelConfig, read_yaml
from videopure.purifier import DefendedRecogniser, TransformersRecogniser
from videopure.training.adversarial import (
    AdversarialTrainer,
    HardenRecipe,
    LabelledClips,
    Validation,
)
from videopure.training.cards import write_card
from videopure.training.clips import VideoClips, open_clips
from videopure.training.loop import Question, train_steps

__all__ = ["Hardened", "harden"]

Report = Callable[[str], object]


@dataclass(frozen=True)
class Hardened:
    """The result of hardening.

    Args:
        archive: the archive that was written.
        before, after: shares of the validation clips that were kept.
        seconds: training time, with that of earlier runs.
        skipped: what is wrong with each video that could not be read.
    """

    archive: Path
    before: Validation
    after: Validation
    seconds: float
    skipped: tuple[str, ...] = ()


def harden(
    archive: Path,
    clips: str | LabelledClips,
    out: Path,
    recipe: HardenRecipe | None = None,
    *,
    purification: Mapping[str, Any] | None = None,
    labelled: bool = True,
    workplace: Path | None = None,
    state: PartialState | None = None,
    workers: int | None = None,
    report: Report = lambda step: None,
) -> Hardened:
    """Write a hardened copy of an archive.

    A stopped run resumes when it is called again with the same arguments.

    Args:
        archive: the archive to harden; it is not changed.
        clips: `demo`, a folder or a CSV, see `open_clips`; or clips of the recogniser's size.
        out: the archive to write, ending in `.mar`.
        recipe: how to train; its `train` says what.
        purification: settings to change, such as `{"method": "one_look"}`: training goes through
            what is served with them. The suspicion threshold, no longer valid, is removed.
        labelled: if False, the targets are the recogniser's own answers to the clean clips.
        workplace: folder of the checkpoint; beside `out` by default.
        state: this process among several.
        workers: processes (for the demo's clips) or threads (for videos) that fetch clips while the
            chip computes. By default half of the CPUs, up to 8, with a GPU; none where CPUs train.
        report: called with the name of each step as it starts.

    Raises:
        BuildError, ManifestError, SettingsError: if the archive cannot be used.
        ClipError: if the clips cannot be used.
        ValueError: naming what else cannot be used.
    """
    recipe = recipe or HardenRecipe()
    digest = digest_archive(archive)
    state = state or PartialState(cpu=not torch.cuda.is_available())
    on_gpu = state.device.type == "cuda"
    if workers is None:
        workers = min(8, (os.cpu_count() or 2) // 2) if on_gpu else 0
    if on_gpu:
        torch.set_float32_matmul_precision("high")  # TF32, as convolutions have it already
    with unpacked(archive) as root, ExitStack() as ended:
        manifest = Manifest.read(root)
        if manifest.external_weights:
            raise BuildError(
                f"{archive} is thin, and external weights cannot be changed: build it "
                "without --thin"
            )
        config = _config(root, purification or {})
        report("Checking and loading the archive")
        defended = _load(root, config, state.device)
        source = clips
        if isinstance(source, str):
            limits = ModelConfig.parse(config).videopure.limits
            source = open_clips(
                source, defended.recogniser, labelled=labelled, limits=limits, workers=workers
            )
            ended.callback(source.close)
        trainer = AdversarialTrainer(defended, source, recipe, state, report, workers)
        ended.callback(trainer.ahead.close)
        asked = {"archive": digest, "purification": str(defended.settings)}
        question = Question({**asked, "clips": str(clips), "labelled": labelled, **asdict(recipe)})
        report("Attacking it as it is")
        before = trainer.validate()
        place = (workplace or out.with_suffix(".training")) / "checkpoint.pt"
        place.parent.mkdir(parents=True, exist_ok=True)
        log = train_steps(
            "hardening",
            recipe.steps,
            trainer.step,
            {"question": question, **trainer.parts},
            place,
            writes=state.is_main_process,
        )
        trainer.best.restore(trainer.networks)
        after = trainer.best.found
        if state.is_main_process:
            report("Packing the hardened archive")
            record = Hardening(
                train=recipe.train,
                method="none" if recipe.bare else defended.settings.method,
                source=digest,
                clips=clips if isinstance(clips, str) else type(clips).__name__,
                labelled=labelled,
                recipe=asdict(recipe),
                seconds=round(log.seconds, 1),
                processes=state.num_processes,
                device=state.device.type,
                step=trainer.best.step,
                attacked=after.attacked,
                clean=after.clean,
            )
            _write(root, defended, record, config, out)
        state.wait_for_everyone()
    skipped = tuple(source.skipped.values()) if isinstance(source, VideoClips) else ()
    return Hardened(out, before, after, log.seconds, skipped)


def _config(root: Path, purification: Mapping[str, Any]) -> dict[str, Any]:
    """The new model-config.yaml: with other purification, and not calibrated."""
    config = read_yaml((root / CONFIG_NAME).read_text(encoding="utf-8"), CONFIG_NAME) or {}
    section = dict(config.get("videopure") or {})
    section.pop("calibration", None)
    changed = {**(section.get("purification") or {}), **purification, "suspicion_threshold": None}
    changed.pop("change_threshold", None)
    return {**config, "videopure": {**section, "purification": changed}}


def _load(root: Path, config: Mapping[str, Any], device: torch.device) -> DefendedRecogniser:
    settings = ModelConfig.parse(config).videopure.model_copy(update={"dtype": "float32"})
    return load_folder(root, settings, device).defended


def _write(
    root: Path,
    defended: DefendedRecogniser,
    record: Hardening,
    config: Mapping[str, Any],
    out: Path,
) -> None:
    """The archive with the trained weights, each model in its own layout."""
    manifest = Manifest.read(root)

    def change(models: Path) -> None:
        if record.train != "recogniser":
            pipeline = defended.pipeline
            folder = models / "pipeline" / pipeline.model.folder
            replace_weights(folder, pipeline.denoiser.state_dict())
            write_card(models / "pipeline", manifest.purifier, record)
        if record.train != "purifier":
            _write_recogniser(models / "recogniser", defended, manifest.recogniser.dtype)
            write_card(models / "recogniser", manifest.recogniser, record)

    # The time per clip was measured with other settings.
    changes = {"hardening": [*manifest.hardening, record], "fit": None}
    repack(root, change, manifest.model_copy(update=changes), config, out)


def _write_recogniser(folder: Path, defended: DefendedRecogniser, dtype: str) -> None:
    recogniser = defended.recogniser
    if isinstance(recogniser, TransformersRecogniser):
        # Its library may have renamed entries of old checkpoints, and writes what it reads.
        for file in folder.glob("*.safetensors*"):
            file.unlink()
        recogniser.model.to(getattr(torch, dtype.split("+")[0])).save_pretrained(folder)
    else:
        replace_weights(folder, recogniser.state_dict())
