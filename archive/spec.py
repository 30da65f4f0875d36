"""What an archive is to be built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from videopure.format.manifest import MANIFEST_NAME
from videopure.format.settings import DTYPES, ModelConfig
from videopure.purifier.flow import RAFT_MODELS

__all__ = ["BuildError", "BuildSpec", "Report"]

Report = Callable[[str], object]


class BuildError(ValueError):
    """The archive cannot be built; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """All options of `videopure build`, which have the names of the fields.

    Args:
        recogniser: folder or hub id of a video classifier; `torchvision:NAME`; or the file of a
            program (`.pt2` of torch.export, `.pt` or `.ts` of TorchScript).
        pipeline: diffusers folder or hub id; a text encoder in it is used once, for the prompt
            embedding, and left out.
        out: the archive to write, ending in `.mar`, or with `folder` the folder of one, without
            an ending; an older one is replaced.
        name: the model's name in TorchServe; by default that of `out` must be the same.
        version: version of the model.
        recogniser_name: the recogniser's name in the answers; by default its own or its folder's.
        purifier_name: the purifier's name in the answers; by default the pipeline folder's name.
        config: model-config.yaml: TorchServe's own keys and the `videopure` section; see
            `ModelConfig`.
        weights: weights file of a torchvision model.
        recogniser_config: YAML that describes a program, or changes a torchvision model's preset.
        labels: file of class names, in the order of the logits.
        trust_program: accept a recogniser that is a program, which is code.
        accept_licence: agree to licences that restrict use.
        dtype: dtype to convert all weights to; by default they keep theirs. RAFT stays float32.
        prompt: prompt that the diffusion model is conditioned on; by default the empty one.
        motion_adapter: folder, hub id or .safetensors file; makes a Stable Diffusion pipeline
            AnimateDiff.
        motion_lora: file, folder or hub id of a LoRA that the adapter needs, like AnimateLCM's.
        decoder: folder or hub id of an AutoencoderTiny that decodes the same latents faster.
        flow: `raft_large` or `raft_small`, with `flow_weights`; by default DIS, without weights.
        flow_weights: file of RAFT's weights.
        folder: leave the archive unpacked, which TorchServe also accepts: for gigabytes.
        thin: leave weights where they are, pinned by their digests.
        trial: run a clip through the result. Without it the parts are only loaded.
    """

    recogniser: str | Path
    pipeline: str | Path
    out: Path
    name: str = "videopure"
    version: str = "1.0"
    recogniser_name: str | None = None
    purifier_name: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    recogniser_config: Path | None = None
    labels: Path | None = None
    trust_program: bool = False
    accept_licence: bool = False
    dtype: str | None = None
    prompt: str | None = None
    motion_adapter: str | Path | None = None
    motion_lora: str | Path | None = None
    decoder: str | Path | None = None
    flow: str | None = None
    flow_weights: Path | None = None
    folder: bool = False
    thin: bool = False
    trial: bool = True

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The dtype to convert weights to; None for no conversion."""
        return None if self.dtype is None else DTYPES[self.dtype]

    def check(self) -> ModelConfig:
        """The checked configuration.

        Raises:
            BuildError: naming an argument that cannot be used.
            SettingsError: naming a key or value of the configuration that cannot be used.
        """
        if self.folder and self.out.suffix:
            raise BuildError(f"out must be a folder's name without an ending, got {self.out}")
        if not self.folder and self.out.suffix != ".mar":
            raise BuildError(f"out must end in .mar, got {self.out}")
        if self.folder and not _may_replace(self.out):
            raise BuildError(f"out {self.out} exists and is not an archive: remove it first")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise BuildError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.thin and self.dtype is not None:
            raise BuildError(
                f"dtype {self.dtype} does not go with thin, which leaves weights unchanged: "
                "choose the dtype of computation with the setting videopure.dtype"
            )
        if self.motion_lora is not None and self.motion_adapter is None:
            raise BuildError(
                f"motion_lora goes with motion_adapter, got {self.motion_lora} without one"
            )
        if self.flow is not None and self.flow not in RAFT_MODELS:
            raise BuildError(f"flow must be one of {', '.join(RAFT_MODELS)}, got {self.flow!r}")
        if (self.flow is None) != (self.flow_weights is None):
            raise BuildError(
                f"flow and flow_weights are needed together, got {self.flow} and "
                f"{self.flow_weights}"
            )
        return ModelConfig.parse(self.config)


def _may_replace(folder: Path) -> bool:
    """Whether only an older archive would be lost."""
    if folder.is_dir():
        return (folder / MANIFEST_NAME).is_file() or not any(folder.iterdir())
    return not folder.exists()
