"""The defended recogniser of an archive, exactly as TorchServe's workers load it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import torch

from videopure.evaluation.store import EvaluationError, disk_faults
from videopure.format.loading import LoadedArchive, load_archive
from videopure.format.manifest import ManifestError
from videopure.format.settings import DTYPES, Dtype, SettingsError
from videopure.motions import BUNDLE, HARDENED
from videopure.motions.bundle_files import BundleSettings
from videopure.motions.clips import CLASSES
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.recognisers import Recogniser, load_recogniser

__all__ = ["as_dtype", "load_evaluated", "second_recogniser", "thresholds"]


def load_evaluated(archive: Path, device: torch.device, dtype: Dtype = "float32") -> LoadedArchive:
    """Load what an archive serves, with its settings except for the precision.

    Half precision rounds gradients to zero, and an attack that fails for that reason proves
    nothing.

    Raises:
        EvaluationError: if it is not a VideoPure archive, or is damaged.
    """
    try:
        with disk_faults(Path(tempfile.gettempdir())):
            return load_archive(archive, device, dtype=dtype)
    except (ManifestError, SettingsError) as error:
        hint = "" if archive.exists() else ": build one with `videopure build`, or name another"
        raise EvaluationError(f"{archive}: {error}{hint}") from error


def as_dtype(name: str) -> Dtype:
    """Check the name of a precision.

    Raises:
        EvaluationError: naming the allowed ones.
    """
    if name not in DTYPES:
        raise EvaluationError(f"dtype must be one of {', '.join(DTYPES)}, got {name!r}")
    return cast(Dtype, name)


def second_recogniser(
    folder: Path | None, first: Recogniser, device: torch.device
) -> Recogniser | None:
    """The recogniser to transfer attacks from; for the demo's classes, by default the demo's.

    Raises:
        EvaluationError: if it does not fit the recogniser of the archive.
    """
    if folder is None:
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
    """Calibrated thresholds of the suspicion score, by name.

    An archive has one. The demo's archive also gets the demo's other one.
    """
    served = defended.settings.suspicion_threshold
    if served is None:
        return {}
    for bundle in (HARDENED, BUNDLE):
        calibrated = BundleSettings.read(bundle).suspicion_thresholds
        if served in calibrated.values():
            return {f"{float(rate):.0%} of clean clips": t for rate, t in calibrated.items()}
    return {"the archive's threshold": served}
