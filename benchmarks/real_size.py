"""A diffusion model and a recogniser of real size with random weights, and what serving them takes.

    python -m benchmarks.real_size make FOLDER       writes the models and settings.yaml
    python -m benchmarks.real_size measure ARCHIVE   loads an archive's folder, answers one clip
    python -m benchmarks.real_size purify ARCHIVE    its purifier alone, on clips of any size

docs/real-models.md has the commands between the two, and what they printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from torch import nn

from benchmarks.random_weights import random_weights
from videopure.format.settings import DTYPES, ModelConfig
from videopure.handler.torchserve import load_service
from videopure.purifier import VideoPurePipeline
from videopure.purifier.memory import peak_memory
from videopure.purifier.networks import PromptEmbedding

DTYPE = torch.bfloat16
FRAMES, SIZE = 8, 64
SETTINGS = "dtype: bfloat16\nwarm_up: false\n"
# text-to-video-ms-1.7b's own, as its config.json has it; the VAE is that of Stable Diffusion 2.1.
UNET: dict[str, Any] = {
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": (*["CrossAttnDownBlock3D"] * 3, "DownBlock3D"),
    "up_block_types": ("UpBlock3D", *["CrossAttnUpBlock3D"] * 3),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "attention_head_dim": 64,
}
VAE: dict[str, Any] = {
    "sample_size": 512,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
TOKENS = 77


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("action", choices=["make", "measure", "purify"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--device", default="cpu", help="of purify")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES, help="of purify")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of purify")
    parser.add_argument("--size", type=int, default=SIZE, help="of purify")
    arguments = parser.parse_args()
    if arguments.action == "purify":
        purify(arguments)
    else:
        {"make": make, "measure": measure}[arguments.action](arguments.path)


def make(folder: Path) -> None:
    """Write `pipeline/`, `recogniser/` and `settings.yaml`."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    pipeline = folder / "pipeline"
    for part, kind, config in (("unet", UNet3DConditionModel, UNET), ("vae", AutoencoderKL, VAE)):
        network = random_weights(partial(kind, **config))
        network.save_pretrained(pipeline / part)
        report(part, network)
    DDIMScheduler(**SCHEDULER).save_pretrained(pipeline / "scheduler")
    embedding = torch.randn(1, TOKENS, UNET["cross_attention_dim"])
    prompt = PromptEmbedding.from_tensor(embedding)
    prompt.save_pretrained(pipeline / "prompt_embedding")
    # VideoMAE-base, but for the clip: 8 frames of 64x64 instead of 16 of 224x224. The number of
    # its weights is the same, as its places are no weights.
    labels = {index: f"class {index}" for index in range(400)}
    config = VideoMAEConfig(
        image_size=SIZE,
        num_frames=FRAMES,
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
    )
    torch.manual_seed(0)
    recogniser = VideoMAEForVideoClassification(config).to(DTYPE)
    recogniser.save_pretrained(folder / "recogniser")
    report("recogniser", recogniser)
    processor = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    (folder / "recogniser" / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "settings.yaml").write_text(SETTINGS)


def report(name: str, network: nn.Module) -> None:
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{name}: {parameters:,} parameters", flush=True)


def measure(root: Path) -> None:
    """Load as a worker does and purify one clip, saying time and the process's peak memory."""
    import yaml

    config = ModelConfig.parse(yaml.safe_load((root / "model-config.yaml").read_text()))
    print(f"before loading: {peak():.1f} GB at the peak", flush=True)
    start = time.monotonic()
    service = load_service(root, config.videopure, torch.device("cpu"))
    print(f"checked and loaded in {time.monotonic() - start:.1f} s, {peak():.1f} GB at the peak")
    clip = torch.rand(1, FRAMES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    start = time.monotonic()
    output = service.defended.answer(clip, votes="full")
    (verdict,) = output.verdicts
    print(f"one clip of {FRAMES} frames {SIZE}x{SIZE}: {time.monotonic() - start:.1f} s, ", end="")
    print(f"{len(verdict.votes)} votes, {peak():.1f} GB at the peak")
    print({stage: round(spent) for stage, spent in output.timing_ms.items()}, "ms")
    if not torch.isfinite(verdict.probabilities).all():
        sys.exit("the answer is not finite")


def purify(arguments: argparse.Namespace) -> None:
    """Purify a clip and decode all its candidates, twice; tell of the second time."""
    device = torch.device(arguments.device)
    pipeline = VideoPurePipeline.from_pretrained(
        arguments.path / "pipeline", dtype=DTYPES[arguments.dtype], local_files_only=True
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    clip = torch.rand(1, arguments.frames, 3, arguments.size, arguments.size, device=device)
    for _ in range(2):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        start = time.monotonic()
        pipeline(clip, output_type="np")  # which waits for the device
        seconds = time.monotonic() - start
    most = peak_memory(device) / 1e9
    what = f"{arguments.frames} frames {arguments.size}x{arguments.size} in {arguments.dtype}"
    print(f"{what} on {device}: {1000 * seconds:,.0f} ms, {most:.1f} GB at the peak")


def peak() -> float:
    """Most memory that this process has had on the host, in GB."""
    return peak_memory(torch.device("cpu")) / 1e9


if __name__ == "__main__":
    main()
