"""Loads the built archive like a worker, runs a clip through it, and measures time and memory."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors import SafetensorError

from videopure.archive.spec import BuildError
from videopure.format.loading import load_staged
from videopure.format.manifest import Fit, ManifestError
from videopure.format.settings import HandlerSettings
from videopure.purifier import DefendedRecogniser
from videopure.purifier.memory import memory_taken

__all__ = ["try_out"]

_NOT_FINITE = (
    "returns values for a grey clip that are not finite: its weights are damaged, or too large "
    "for their dtype"
)


def try_out(root: Path, settings: HandlerSettings, *, run: bool = True) -> Fit | None:
    """Load the parts like a worker and answer two clips, on a GPU if there is one.

    Args:
        root: the staged archive.
        settings: settings of the worker.
        run: False only loads.

    Raises:
        BuildError: naming the part that is damaged, or why two do not fit together.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    start = time.monotonic()
    defended = _load(root, settings, device)
    loaded = time.monotonic() - start
    if not run:
        return None
    weights = [*defended.parameters(), *defended.buffers()]
    for tensor in weights:  # read memory-mapped files now, not with the clip
        tensor.flatten()[::1024].sum()
    # The first clip cannot reuse memory of an earlier one, and pays for first-time work.
    taken = memory_taken(lambda: _answer(defended, device), device)
    start = time.monotonic()
    _answer(defended, device)
    milliseconds = 1000 * (time.monotonic() - start)
    return Fit(
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
        dtype=str(defended.pipeline.denoiser.dtype).removeprefix("torch."),
        load_s=round(loaded, 1),
        clip_ms=round(milliseconds, 1),
        model_bytes=sum(tensor.nbytes for tensor in weights),
        clip_bytes=taken,
    )


def _load(root: Path, settings: HandlerSettings, device: torch.device) -> DefendedRecogniser:
    try:
        return load_staged(root, settings, device).defended
    except ManifestError as error:
        raise BuildError(str(error)) from error
    except (OSError, RuntimeError, KeyError, SafetensorError) as error:
        raise BuildError(f"the assembled parts cannot be loaded: {error}") from error
    except ImportError as error:
        raise BuildError(f"a package that this archive needs is missing: {error}") from error
    except ValueError as error:
        raise BuildError(f"the parts do not fit together: {error}") from error


def _answer(defended: DefendedRecogniser, device: torch.device) -> None:
    recogniser = defended.recogniser
    clip = torch.full((1, recogniser.num_frames, 3, *recogniser.frame_size), 0.5, device=device)
    try:
        (verdict,) = defended.answer(clip).verdicts
    except ValueError as error:
        raise BuildError(f"the parts do not fit together: {error}") from error
    except torch.OutOfMemoryError as error:
        raise BuildError(
            f"one clip does not fit the memory of {device}: choose a smaller dtype, a smaller "
            f"recogniser, or a faster --decoder ({error})"
        ) from error
    if not torch.isfinite(verdict.undefended).all():
        raise BuildError(f"recogniser {recogniser.name!r} {_NOT_FINITE}")
    if not torch.isfinite(verdict.probabilities).all():
        raise BuildError(f"the purifier {_NOT_FINITE}")
