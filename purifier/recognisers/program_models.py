"""Family `program`: `torch.export` programs and TorchScript, for models without a family.

A program is code: `torch.export.load` falls back to unpickling, and TorchScript may call any
operator. It is loaded only if the caller names it as trusted.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from videopure.purifier.inputs import at_least_float32
from videopure.purifier.recognisers.base import Normalise, Recogniser
from videopure.purifier.recognisers.config import RecogniserConfig

if TYPE_CHECKING:
    from videopure.purifier.recognisers.loading import RecogniserFolder

__all__ = ["PROGRAM_KINDS", "ProgramRecogniser", "load"]

# `kind` by the suffix of the program's file.
PROGRAM_KINDS = {
    ".pt2": "program.export",
    ".pt": "program.torchscript",
    ".ts": "program.torchscript",
}


class _Frozen(nn.Module):
    """A program, which has no training mode; an exported one raises if it is set."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> _Frozen:
        self.training = mode
        return self

    def forward(self, pixels: Tensor) -> Any:
        return self.program(pixels)


class ProgramRecogniser(Recogniser):
    """A program that takes float32 frames in its own layout, and returns logits."""

    def __init__(self, program: Any, config: RecogniserConfig) -> None:
        super().__init__(
            config.name, config.num_frames, config.frame_size, config.labels, config.framing
        )
        self.program = _Frozen(program)
        self.normalise = Normalise(config.mean, config.std)
        self.layout = config.layout
        self.batch_size = config.batch_size

    def logits(self, frames: Tensor) -> Tensor:
        """See `Recogniser.logits`."""
        self.check_frames(frames)
        pixels = self.normalise(frames)  # [B, T, 3, H, W]
        pixels = pixels.permute(["BTCHW".index(axis) for axis in self.layout]).contiguous()
        parts = [pixels] if self.batch_size is None else pixels.split(self.batch_size)
        return torch.cat([self._run(part) for part in parts])

    def _run(self, pixels: Tensor) -> Tensor:
        given = len(pixels)
        if self.batch_size is not None and given < self.batch_size:
            # It takes exactly this many clips: repeat the last one, and drop the copies' logits.
            filling = pixels[-1:].expand(self.batch_size - given, *pixels.shape[1:])
            pixels = torch.cat((pixels, filling))
        output = self.program(pixels)
        output = output[0] if isinstance(output, tuple | list) else output
        expected = [len(pixels), len(self.labels)]
        if not isinstance(output, Tensor) or list(output.shape) != expected:
            shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"program {self.name!r} must answer logits of shape {expected} (clips, labels), "
                f"got {shape}"
            )
        return at_least_float32(output[:given])


def load(folder: RecogniserFolder) -> ProgramRecogniser:
    """Load `config.json` and the program that it names, if that one is trusted."""
    where = folder.path / "config.json"
    config = RecogniserConfig.from_dict(folder.config, str(where))
    if config.kind not in PROGRAM_KINDS.values():
        raise ValueError(
            f"kind in {where} must be one of {', '.join(sorted(set(PROGRAM_KINDS.values())))}, "
            f"got {config.kind!r}"
        )
    if config.program is None:
        raise ValueError(f"{where}: key 'program' is missing")
    if folder.trusted_program != config.program:
        raise ValueError(
            f"{folder.path / config.program} is a program, which can run any code when it is "
            "loaded: trust it explicitly, or export weights as safetensors"
        )
    file = folder.path / config.program
    program: Any
    if config.kind == "program.export":
        exported = torch.export.load(file)
        if folder.device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            exported = move_to_device_pass(exported, folder.device)
        program = exported.module()
    else:
        with warnings.catch_warnings():  # deprecated, but many models exist in this form
            warnings.simplefilter("ignore", DeprecationWarning)
            program = torch.jit.load(file, map_location=folder.device)
    return ProgramRecogniser(program, config)
