"""AnimateDiff's UNet out of adapters and LoRAs as they are published: folders and single files."""

from pathlib import Path

import pytest
import torch
from diffusers import MotionAdapter
from safetensors.torch import load_file, save_file
from torch import nn

from tests.support.models import save_recogniser
from tests.support.pipelines import (
    save_motion_adapter,
    save_stable_diffusion,
    tiny_motion_unet,
)
from videopure.archive import BuildError, BuildSpec, build
from videopure.archive.lora import merge_lora
from videopure.archive.motion import adapter_of_file, find_motion_file
from videopure.format.manifest import Manifest

pytestmark = pytest.mark.integration


def lora_of(layers: dict[str, nn.Module], style: str) -> dict[str, torch.Tensor]:
    """A LoRA of rank 2 on some layers, in the names of a library."""
    generator = torch.Generator().manual_seed(4)
    weights = {}
    for name, layer in layers.items():
        out, into = layer.weight.shape[:2]
        down, up = (torch.randn(s, generator=generator) for s in ((2, into), (out, 2)))
        if style == "kohya":
            place = "lora_unet_" + name.replace(".", "_")
            weights[f"{place}.alpha"] = torch.tensor(1.0)
            weights |= {f"{place}.lora_down.weight": down, f"{place}.lora_up.weight": up}
        elif style == "peft":
            weights |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
        else:
            place, layer_name = name.removesuffix(".0").rsplit(".", 1)
            place = f"unet.{place}.processor.{layer_name}_lora"
            weights |= {f"{place}.down.weight": down, f"{place}.up.weight": up}
    return weights


@pytest.mark.parametrize(("style", "scale"), [("kohya", 0.5), ("peft", 1.0), ("processor", 1.0)])
def test_a_lora_is_added_to_the_weights_that_it_names(style: str, scale: float) -> None:
    """`W + alpha / rank * up @ down`, by which LoRA is defined (arXiv 2106.09685)."""
    unet = tiny_motion_unet(frames=8)
    layers = {
        name: module
        for name, module in unet.named_modules()
        if name.endswith(("attentions.0.transformer_blocks.0.attn1.to_q", "attn2.to_out.0"))
        and "motion" not in name
    }
    assert len(layers) > 2
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    weights = lora_of(layers, style)
    factors = [value for key, value in weights.items() if not key.endswith("alpha")]
    merge_lora(unet, weights, "x")
    changed = {n for n, v in unet.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {f"{name}.weight" for name in layers}
    for (name, layer), down, up in zip(layers.items(), factors[::2], factors[1::2], strict=True):
        expected = before[f"{name}.weight"] + scale * up @ down
        torch.testing.assert_close(layer.weight, expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"mid_block.nothing.lora_A.weight": (2, 8)}, "lacks a factor of mid_block.nothing"),
        ({"a.lora_A.weight": (2, 8), "a.lora_B.weight": (8, 2)}, "changes a, which the UNet does"),
        ({"a.weight": (2, 8)}, "holds a.weight, which no known kind of LoRA has"),
        (
            {"conv_in.lora_A.weight": (2, 4), "conv_in.lora_B.weight": (8, 2)},
            r"changes conv_in by \[8, 2\] times \[2, 4\], but its weights are \[8, 4, 3, 3\]",
        ),
        ({}, "holds no LoRA of a UNet"),
    ],
)
def test_a_lora_that_does_not_fit_is_named(
    weights: dict[str, tuple[int, ...]], message: str
) -> None:
    tensors = {name: torch.zeros(shape) for name, shape in weights.items()}
    with pytest.raises(BuildError, match=f"motion LoRA x {message}"):
        merge_lora(tiny_motion_unet(), tensors, "x")


def test_an_adapter_may_be_a_file_without_its_configuration(tmp_path: Path) -> None:
    """As AnimateDiff-Lightning's come; what no weight tells is as in all published ones."""
    sizes = {"block_out_channels": (32, 64), "motion_layers_per_block": 1}
    adapter = MotionAdapter(**sizes, motion_max_seq_length=8)
    file = tmp_path / "lightning_4step.safetensors"
    save_file(adapter.state_dict(), file)
    source = find_motion_file("motion adapter", file)
    assert source is not None
    again = adapter_of_file(source, None)
    sizes = {k: v for k, v in adapter.config.items() if not k.startswith("_")}
    assert {k: again.config[k] for k in sizes} == sizes
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, adapter.state_dict()[name])
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(
        BuildError, match=r"lightning_4step\.safetensors holds no weights of a Motio"
    ):
        adapter_of_file(source, None)
    assert find_motion_file("motion adapter", tmp_path) is None
    (tmp_path / "adapter.ckpt").touch()
    with pytest.raises(BuildError, match=r"must be a folder or a \.safetensors file"):
        find_motion_file("motion adapter", tmp_path / "adapter.ckpt")


def test_a_lora_goes_into_animatediffs_unet(tmp_path: Path) -> None:
    """As AnimateLCM's does."""
    layers = dict(tiny_motion_unet().named_modules())
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"
    file = tmp_path / "lcm.safetensors"
    save_file(lora_of({name: layers[name]}, "kohya"), file)
    spec = BuildSpec(
        recogniser=save_recogniser(tmp_path / "own", 4, (16, 16)),
        pipeline=save_stable_diffusion(tmp_path / "sd"),
        motion_adapter=save_motion_adapter(tmp_path / "adapter", frames=8),
        motion_lora=file,
        out=tmp_path / "built",
        folder=True,
        trial=False,
    )
    root = build(spec)
    stored = load_file(root / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    before = tiny_motion_unet(frames=8).state_dict()
    assert {n for n in before if not torch.equal(stored[n], before[n])} == {f"{name}.weight"}
    parts = Manifest.read(root).purifier.parts
    assert parts["motion LoRA"] == "lcm.safetensors (no licence found)"
