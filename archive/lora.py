"""Low-rank changes of weights (LoRA, arXiv 2106.09685), merged into the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from videopure.archive.spec import BuildError

__all__ = ["merge_lora"]

# Names of the two factors in several libraries: down is the first, up the second.
_FACTORS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".down.weight": "down",
    ".up.weight": "up",
    ".alpha": "alpha",
}
_PREFIX = re.compile(r"^(lora_unet_|unet\.|base_model\.model\.)")
# Names of attention layers in the LoRAs of diffusers' first versions.
_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora$")


class _Change(NamedTuple):
    down: Tensor  # [rank, in, ...]
    up: Tensor  # [out, rank, ...]
    alpha: float | None  # the change is scaled by alpha / rank; by 1 where None


@torch.no_grad()
def merge_lora(network: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Add a LoRA to a network's weights in place: `W + alpha / rank * up @ down`.

    Args:
        network: a diffusers network with the layers that the LoRA names.
        weights: weights of the LoRA, named as in kohya, PEFT or diffusers.
        origin: origin of the LoRA, for messages.

    Raises:
        BuildError: naming a layer that the network does not have, or that does not fit.
    """
    layers = {
        _key(name): module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    changes = _changes(weights, origin)
    if not changes:
        raise BuildError(f"motion LoRA {origin} holds no LoRA of a UNet")
    for name, change in changes.items():
        layer = layers.get(_key(name))
        if layer is None:
            raise BuildError(f"motion LoRA {origin} changes {name}, which the UNet does not have")
        down, up = change.down.float().flatten(1), change.up.float().flatten(1)
        rank = len(down)
        if up.shape[1] != rank or (len(up), down.shape[1]) != tuple(layer.weight.flatten(1).shape):
            raise BuildError(
                f"motion LoRA {origin} changes {name} by {list(up.shape)} times "
                f"{list(down.shape)}, but its weights are {list(layer.weight.shape)}"
            )
        scale = 1.0 if change.alpha is None else change.alpha / rank
        added = (scale * up @ down).view_as(layer.weight)
        layer.weight.copy_(layer.weight.float() + added)


def _key(name: str) -> str:
    """A layer's name without differences between libraries: kohya joins it with underscores."""
    return name.replace(".", "_")


def _changes(weights: Mapping[str, Tensor], origin: str) -> dict[str, _Change]:
    """The factors of each layer, by its name."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in weights.items():
        ending = next((e for e in _FACTORS if key.endswith(e)), None)
        if ending is None:
            raise BuildError(f"motion LoRA {origin} holds {key}, which no known kind of LoRA has")
        name = _PREFIX.sub("", key.removesuffix(ending))
        name = _PROCESSOR.sub(lambda m: "." + m[1].replace("to_out", "to_out.0"), name)
        found.setdefault(name, {})[_FACTORS[ending]] = tensor
    for name, factors in found.items():
        if not {"down", "up"} <= factors.keys():
            raise BuildError(f"motion LoRA {origin} lacks a factor of {name}")
    return {
        name: _Change(f["down"], f["up"], float(f["alpha"]) if "alpha" in f else None)
        for name, f in found.items()
    }
