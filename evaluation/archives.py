"""The defended recogniser of an archive, exactly as TorchServe's workers load it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast, get_args

import torch
import yaml

from videopure.evaluation.store import EvaluationError, disk_faults
from videopure.format.manifest import Manifest, ManifestError
from videopure.format.settings import Dtype, HandlerSettings, ModelConfig, SettingsError
from videopure.handler.torchserve import load_service
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.recognisers import Recogniser, load_recogniser

__all__ = ["as_dtype", "digest", "open_archive", "second_recogniser", "thresholds"]


def digest(archive: Path) -> str:
    """SHA-256 of the models and settings in an archive, whenever and by what version it was built.

    Of the settings count those that are not left to their defaults.
    """
    with _unpacked(archive) as root:
        chosen = _settings(root).model_dump_json(exclude_defaults=True)
        total = hashlib.sha256(chosen.encode())
        for name, record in sorted(Manifest.read(root).files.items()):
            if not name.startswith("videopure/"):  # the code
                total.update(f"{name} {record.sha256}\n".encode())
    return total.hexdigest()


def open_archive(
    archive: Path, device: torch.device, dtype: Dtype = "float32"
) -> DefendedRecogniser:
    """Load what an archive serves, with its settings, but for the precision.

    Half precision rounds gradients to zero, and an attack that fails for that reason says nothing.

    Raises:
        EvaluationError: if it is no archive of ours, or damaged.
    """
    with _unpacked(archive) as root:
        try:
            settings = _settings(root).model_copy(update={"dtype": dtype})
            return load_service(root, settings, device).defended
        except (ManifestError, SettingsError) as error:
            raise EvaluationError(f"{archive}: {error}") from error


def as_dtype(name: str) -> Dtype:
    """Check the name of a precision.

    Raises:
        EvaluationError: naming those there are.
    """
    known = [dtype for dtype in get_args(Dtype) if dtype != "auto"]
    if name not in known:
        raise EvaluationError(f"dtype must be one of {', '.join(known)}, got {name!r}")
    return cast(Dtype, name)


def second_recogniser(
    folder: Path | None, first: Recogniser, device: torch.device
) -> Recogniser | None:
    """The recogniser that attacks are transferred from; by default the demo's, for its classes.

    Raises:
        EvaluationError: if it does not fit the recogniser of the archive.
    """
    if folder is None:
        # The demo builds on this package; only the place of its models is asked for here.
        from videopure.motions import BUNDLE
        from videopure.motions.clips import CLASSES

        if tuple(first.labels) != CLASSES:
            return None
        folder = BUNDLE / "recogniser_transfer"
    try:
        second = load_recogniser(folder).to(device)
    except ValueError as error:
        raise EvaluationError(f"--transfer: {error}") from error
    wanted = (first.labels, first.num_frames, tuple(first.frame_size))
    if (second.labels, second.num_frames, tuple(second.frame_size)) != wanted:
        raise EvaluationError(
            f"--transfer: {folder} takes other frames or names other classes than the archive's "
            "recogniser"
        )
    return second


def thresholds(defended: DefendedRecogniser) -> dict[str, float]:
    """Calibrated thresholds of the suspicion score, by what they are called.

    An archive has one. Where it is the demo's, the demo's other one is there as well.
    """
    from videopure.motions.bundle_files import BundleSettings

    served = defended.settings.suspicion_threshold
    if served is None:
        return {}
    calibrated = BundleSettings.read().suspicion_thresholds
    if served in calibrated.values():
        return {f"{float(rate):.0%} of clean clips": t for rate, t in calibrated.items()}
    return {"the archive's threshold": served}


def _settings(root: Path) -> HandlerSettings:
    config = yaml.safe_load((root / "model-config.yaml").read_text(encoding="utf-8"))
    return ModelConfig.parse(config).videopure


@contextmanager
def _unpacked(archive: Path) -> Iterator[Path]:
    """The archive's files in a folder that is removed afterwards."""
    if not archive.is_file():
        raise EvaluationError(
            f"there is no archive {archive}: build one with `videopure build`, or name another "
            "with --archive"
        )
    root = Path(tempfile.mkdtemp(prefix="videopure-evaluate-"))
    try:
        with zipfile.ZipFile(archive) as packed:
            if "videopure.json" not in packed.namelist():
                raise EvaluationError(f"{archive} was not built by `videopure build`")
            with disk_faults(root):
                packed.extractall(root)
        yield root
    except zipfile.BadZipFile as error:
        raise EvaluationError(f"{archive} is no archive: {error}") from error
    finally:
        shutil.rmtree(root)
