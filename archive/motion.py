"""AnimateDiff's UNet, assembled from an image model, a motion adapter and optionally a LoRA."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from safetensors.torch import load_file
from torch import Tensor, nn

from videopure.archive.hub import Source
from videopure.archive.lora import merge_lora
from videopure.archive.sources import check_file, choose_weights, read_config
from videopure.archive.spec import BuildError
from videopure.archive.staging import Staging

__all__ = ["MOTION_SCHEDULE", "adapter_of_file", "find_motion_file", "store_motion_unet"]

STEM = "diffusion_pytorch_model"
# AnimateDiff's motion modules were trained on this schedule, whatever the image model's was.
MOTION_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "timestep_spacing": "leading",
}


def find_motion_file(part: str, where: str | Path) -> Source | None:
    """A single file of weights, as for AnimateDiff-Lightning's adapters and LoRAs; or None."""
    file = Path(where)
    if not file.is_file():
        return None
    if file.suffix != ".safetensors":
        raise BuildError(f"{part} {file} must be a folder or a .safetensors file")
    check_file(part, file)
    return Source(file, file.stem, file.name)


def store_motion_unet(
    staging: Staging, source: Source, adapter: Source, lora: Source | None, target: Path
) -> list[str]:
    """Make and store the UNet, always inside the archive; returns its model_index.json entry.

    Raises:
        BuildError: naming what does not fit.
    """
    if staging.thin:
        staging.report("Note: AnimateDiff's UNet is assembled here: the archive holds it")
    staging.report("Assembling AnimateDiff's UNet")
    with tempfile.TemporaryDirectory(prefix="unet-", dir=staging.root.parent) as name:
        scratch = Staging(Path(name), staging.dtype, False, staging.report)
        image = _load(scratch, "pipeline", source, source.path / "unet", UNet2DConditionModel)
        if adapter.path.is_file():
            motion = adapter_of_file(adapter, staging.dtype)
        else:
            motion = _load(scratch, "motion adapter", adapter, adapter.path, MotionAdapter)
        try:
            unet = UNetMotionModel.from_unet2d(image, motion)
        except (ValueError, RuntimeError) as error:
            raise BuildError(
                f"motion adapter {adapter.origin} does not fit {source.origin}: {error}"
            ) from error
        if lora is not None:
            merge_lora(unet, load_file(_lora_file(lora)), lora.origin)
        unet.save_pretrained(target, safe_serialization=True)
    return ["diffusers", "UNetMotionModel"]


def _load(scratch: Staging, part: str, source: Source, place: Path, kind: Any) -> Any:
    """A network from a folder; its weights are checked and converted first."""
    found = read_config(part, place / "config.json").get("_class_name")
    if found != kind.__name__:
        raise BuildError(f"{part} {place} is a {found}; a motion adapter needs {kind.__name__}")
    folder = scratch.root / part
    scratch.add_weights(part, source, choose_weights(part, place, STEM), folder, STEM)
    shutil.copyfile(place / "config.json", folder / "config.json")
    dtype = scratch.dtype_of(folder)
    return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=dtype)


def adapter_of_file(source: Source, dtype: torch.dtype | None) -> MotionAdapter:
    """A motion adapter without configuration, which is derived from its weights.

    Args:
        source: a .safetensors file.
        dtype: dtype to convert to; None for no conversion.

    Raises:
        BuildError: if it holds something else.
    """
    weights = load_file(source.path)
    try:
        adapter = MotionAdapter(**_adapter_config(weights))
        adapter.load_state_dict(weights)
    except (KeyError, RuntimeError, ValueError) as error:
        raise BuildError(
            f"motion adapter {source.origin} holds no weights of a MotionAdapter of diffusers: "
            f"{str(error).splitlines()[0]}"
        ) from error
    wanted = dtype or next(iter(weights.values())).dtype
    converted: MotionAdapter = nn.Module.to(adapter, wanted)  # diffusers' own warns needlessly
    return converted


def _adapter_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The sizes of a motion adapter; the number of heads is the usual one."""
    pattern = re.compile(r"down_blocks\.(\d+)\.motion_modules\.(\d+)\.norm\.weight")
    norms = {(int(m[1]), int(m[2])): w for k, w in weights.items() if (m := pattern.match(k))}
    places = "down_blocks.0.motion_modules.0.transformer_blocks.0.pos_embed.pe"
    return {
        "block_out_channels": tuple(
            len(norms[block, 0]) for block in sorted({b for b, _ in norms})
        ),
        "motion_layers_per_block": 1 + max(layer for _, layer in norms),
        "motion_max_seq_length": weights[places].shape[1],
        "use_motion_mid_block": any(key.startswith("mid_block.") for key in weights),
    }


def _lora_file(source: Source) -> Path:
    """The single weights file of a LoRA, which may be given as its folder."""
    if source.path.is_file():
        return source.path
    files = sorted(source.path.glob("*.safetensors"))
    if len(files) != 1:
        raise BuildError(
            f"motion LoRA {source.origin} holds {len(files)} .safetensors files: name the file"
        )
    check_file("motion LoRA", files[0])
    return files[0]
