"""Loads the models of an archive, checked and assembled as a worker serves them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.logging import disable_progress_bar

from videopure.format.external_weights import CompleteFiles, complete_folder, locate
from videopure.format.integrity import FolderFiles, verify_contents, verify_records
from videopure.format.manifest import Manifest, ManifestError
from videopure.format.opening import Archive, open_archive, unpacked
from videopure.format.settings import HandlerSettings
from videopure.purifier import (
    DefendedRecogniser,
    VideoPurePipeline,
    load_flow,
    load_recogniser,
)

__all__ = ["LoadedArchive", "load_archive", "load_folder", "load_staged"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedArchive:
    """What an archive serves.

    Args:
        manifest: its videopure.json.
        settings: the settings it was loaded with.
        defended: its recogniser behind its purifier, on the requested device.
    """

    manifest: Manifest
    settings: HandlerSettings
    defended: DefendedRecogniser


def load_archive(path: Path, device: torch.device, **changes: Any) -> LoadedArchive:
    """Load a `.mar`, a folder or a thin archive, with its own settings.

    Args:
        path: path of the archive.
        device: device for the models.
        changes: fields of `HandlerSettings` that replace the archive's own, such as `dtype`.

    Raises:
        ManifestError: if it is not an archive, or a file is missing or has changed.
        SettingsError: if its model-config.yaml cannot be used.
    """
    with open_archive(path) as archive:
        settings = archive.settings.model_copy(update=changes)
    with unpacked(path) as root:
        return load_folder(root, settings, device)


def load_folder(
    root: Path,
    settings: HandlerSettings,
    device: torch.device,
    public_key: Path | None = None,
) -> LoadedArchive:
    """Load an unpacked archive.

    Args:
        root: its folder, as unpacked by TorchServe or `unpacked`.
        settings: settings of the worker.
        device: device for the models.
        public_key: PEM file of the key that must have signed the archive.

    Raises:
        ManifestError: if a file is missing or has changed since the archive was built.
    """
    archive = Archive(root, FolderFiles(root))
    archive.verify(public_key, settings.weights)
    return _load_verified(root, archive.manifest, settings, device)


def load_staged(root: Path, settings: HandlerSettings, device: torch.device) -> LoadedArchive:
    """Load the models of an archive that is still being built; arguments of `load_folder`."""
    manifest = Manifest.read(root)
    external = locate(manifest, dict(settings.weights))
    verify_contents(CompleteFiles(FolderFiles(root), external), manifest)
    return _load_verified(root, manifest, settings, device)


def _load_verified(
    root: Path, manifest: Manifest, settings: HandlerSettings, device: torch.device
) -> LoadedArchive:
    disable_progress_bar()  # for loading: a server's log is not a terminal
    external = locate(manifest, dict(settings.weights))
    with complete_folder(root, external) as folder:
        defended = _load(folder, manifest, settings, device)
    _leave_files(defended)
    # Check again: the files could have changed between the check and loading.
    files = CompleteFiles(FolderFiles(root), external)
    verify_records(files, {n: r for n, r in manifest.files.items() if n.endswith(".safetensors")})
    return LoadedArchive(manifest, settings, defended.to(device))


def _leave_files(defended: DefendedRecogniser) -> None:
    """Copy weights that are mapped from files into memory, out of reach of file changes."""
    for tensor in (*defended.parameters(), *defended.buffers()):
        tensor.data = tensor.data.clone()


def _load(
    folder: Path, manifest: Manifest, settings: HandlerSettings, device: torch.device
) -> DefendedRecogniser:
    dtype = settings.torch_dtype(device)
    pipeline = VideoPurePipeline.from_pretrained(
        folder / "pipeline", dtype=dtype, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.cuda_graphs = settings.cuda_graphs
    if settings.cuda_graphs and device.type != "cuda":
        logger.warning("cuda_graphs is for GPUs: it changes nothing on %s", device)
    for name, part in pipeline.components.items():
        _check_complete(name, part)
    if manifest.flow is not None:
        pipeline.flow_estimator = load_flow(folder / "flow")
    program = manifest.recogniser.program
    if program is not None:
        if not settings.allow_programs:
            raise ManifestError(
                f"the recogniser {program} is a program, which is code, and this archive's "
                "settings do not allow it: set allow_programs to true in model-config.yaml if you "
                "trust it, with `videopure configure`"
            )
        logger.warning(
            "The recogniser %s is a program, which is code; it was accepted with --trust-program "
            "when the archive was built and is the same file (SHA-256 %s)",
            program,
            manifest.files[f"recogniser/{program}"].sha256,
        )
    recogniser = load_recogniser(
        folder / "recogniser", dtype=dtype, device=device, trusted_program=program
    )
    return DefendedRecogniser(pipeline, recogniser, settings.purification)


def _check_complete(name: str, part: Any) -> None:
    """Raise ManifestError for weights that were not in the files: diffusers lets them pass."""
    if isinstance(part, torch.nn.Module):
        for weight, parameter in part.named_parameters():
            if parameter.is_meta:
                raise ManifestError(f"pipeline/{name} lacks the weight {weight}")
