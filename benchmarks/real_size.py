"""A diffusion model and a recogniser of real size, with random weights: the cost of serving them.

    python -m benchmarks.real_size make FOLDER       write the models and settings.yaml
    python -m benchmarks.real_size measure ARCHIVE   load an archive's folder, answer one clip
    python -m benchmarks.real_size purify ARCHIVE    run its purifier only, on clips of any size

docs/real-models.md has the commands in between, and their output.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

from benchmarks.families import MODELS
from benchmarks.random_weights import random_weights
from videopure.format.settings import DTYPES, ModelConfig
from videopure.handler.torchserve import load_service
from videopure.purifier import VideoPurePipeline
from videopure.purifier.memory import peak_memory
from videopure.purifier.models import find_family
from videopure.purifier.networks import PromptEmbedding

DTYPE = torch.bfloat16
FRAMES, SIZE = 8, 64
SETTINGS = "dtype: bfloat16\nwarm_up: false\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("action", choices=["make", "measure", "purify"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--model", default=next(iter(MODELS)), choices=MODELS, help="for make")
    parser.add_argument("--device", default="cpu", help="for purify")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES, help="for purify")
    parser.add_argument("--frames", type=int, default=FRAMES, help="for purify")
    parser.add_argument("--size", type=int, default=SIZE, help="for purify")
    arguments = parser.parse_args()
    if arguments.action == "make":
        make(arguments.path, arguments.model)
    elif arguments.action == "measure":
        measure(arguments.path)
    else:
        purify(arguments)


def make(folder: Path, name: str) -> None:
    """Write `pipeline/`, `recogniser/` and `settings.yaml`."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    published = MODELS[name]
    pipeline = folder / "pipeline"
    for part, made in (("denoiser", published.denoiser), ("vae", published.codec)):
        network = random_weights(made)
        place = find_family(network).folder if part == "denoiser" else part
        network.save_pretrained(pipeline / place)
        report(place, network)
        del network  # before the next is made
    published.scheduler().save_pretrained(pipeline / "scheduler")
    prompt = PromptEmbedding.from_tensor(torch.randn(1, *published.prompt))
    prompt.save_pretrained(pipeline / "prompt_embedding")
    # VideoMAE-base, but for clips of 8 frames of 64x64 instead of 16 of 224x224. The number of
    # weights is the same: its position embeddings are constants.
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
    """Load as a worker does and purify one clip; print time and the process's peak memory."""
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
    """Purify a clip and decode all its candidates, twice; print the figures of the second run."""
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
        pipeline(clip, output_type="np")  # waits for the device
        seconds = time.monotonic() - start
    most = peak_memory(device) / 1e9
    what = f"{arguments.frames} frames {arguments.size}x{arguments.size} in {arguments.dtype}"
    print(f"{what} on {device}: {1000 * seconds:,.0f} ms, {most:.1f} GB at the peak")


def peak() -> float:
    """Peak memory of this process on the host, in GB."""
    return peak_memory(torch.device("cpu")) / 1e9


if __name__ == "__main__":
    main()
