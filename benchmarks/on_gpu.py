"""Time and memory of purification on a GPU with the published configurations.

    python -m benchmarks.on_gpu --limit-gb 23 --json build/on_gpu.json

Weights are random and made on the device in bfloat16: nothing is downloaded, and their values
change neither work nor memory. `--limit-gb` limits torch's memory on a larger card, to show what
fits on a smaller one: 23 GB stand for a card of 24 GB, which needs 1 GB for CUDA's own context. The
table is in docs/diffusion-models.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.families import MODELS, Published
from benchmarks.random_weights import random_weights
from videopure.format.settings import DTYPES
from videopure.purifier import DefendedRecogniser, PurifySettings, Recogniser, VideoPurePipeline
from videopure.purifier.memory import peak_memory
from videopure.purifier.models import find_family
from videopure.purifier.networks import PromptEmbedding

ORDER = ("Wan 2.1 1.3B", "CogVideoX-2B", "text-to-video-ms-1.7b")
# What `videopure serve` offers: the published procedure at t = 5 with its seven votes, the
# shortcuts of fast mode, and a single step.
SERVED = {
    "exact": PurifySettings(votes="full"),
    "fast": PurifySettings(speed="fast"),
    "one look": PurifySettings(method="one_look"),
}
HIGHEST = 101  # train step of the highest noise level at t = 5
REPEATS = 3


class Figure(NamedTuple):
    """One measurement: median milliseconds, None if memory ran out, and peak memory."""

    model: str
    frames: int
    what: str
    milliseconds: float | None
    peak_gb: float


class Brightness(Recogniser):
    """A recogniser that costs nothing, as only the purifier is measured."""

    def logits(self, frames: Tensor) -> Tensor:
        """See `Recogniser.logits`."""
        mean = frames.mean((1, 2, 3, 4))
        return torch.stack((mean, 1 - mean), dim=1)


def main() -> None:
    """Print a row for each measurement as it is made, and write it."""
    arguments = _parse()
    device = torch.device(arguments.device)
    report = {
        "torch": torch.__version__,
        "card": _limit(device, arguments.limit_gb),
        "dtype": arguments.dtype,
        "size": arguments.size,
        "figures": [],
        "left_out": [],
    }
    print(", ".join(f"{key} {report[key]}" for key in ("torch", "card", "dtype", "size")))
    print("| model | frames | what | ms | GB at the peak |\n|---|---|---|---|---|", flush=True)
    for figure in figures(arguments, device, report["left_out"]):
        name, frames, what, spent, peak = figure
        took = "out of memory" if spent is None else f"{spent:,.0f}"
        print(f"| {name} | {frames} | {what} | {took} | {peak:.1f} |", flush=True)
        report["figures"].append(figure._asdict())
        _write(report, arguments.json)
    _write(report, arguments.json)
    if report["left_out"]:
        print(f"not measured within {arguments.seconds:g} s: {'; '.join(report['left_out'])}")


def _write(report: dict[str, Any], file: Path | None) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report, indent=1), encoding="utf-8")


def figures(
    arguments: argparse.Namespace, device: torch.device, left_out: list[str]
) -> Iterator[Figure]:
    """Yield the measurements; those for which no time is left go to `left_out`."""
    end = time.monotonic() + arguments.seconds
    for name in arguments.models:
        published = MODELS[name]
        pipeline = assemble(published, device, DTYPES[arguments.dtype], arguments.layers)
        for frames in arguments.frames or published.frames:
            clip = torch.rand(1, frames, 3, arguments.size, arguments.size, device=device)
            for what, call in measurements(pipeline, clip, replayed=arguments.replayed):
                if time.monotonic() > end:
                    left_out.append(f"{name}, {frames} frames, {what}")
                else:
                    yield Figure(name, frames, what, *measure(call, device))
        del pipeline, call
        gc.collect()  # hooks and their modules refer to each other
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(ORDER), choices=ORDER, metavar="MODEL")
    parser.add_argument(
        "--frames", nargs="+", type=int, help="frames of a clip; two numbers per model by default"
    )
    parser.add_argument("--size", type=int, default=224, help="height and width of the frames")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES)
    parser.add_argument("--limit-gb", type=float, help="memory of the card that torch may use")
    parser.add_argument(
        "--seconds", type=float, default=600, help="start no measurement after this time"
    )
    parser.add_argument(
        "--replayed",
        action="store_true",
        help="measure calls of the denoiser only, also as a CUDA graph",
    )
    parser.add_argument("--layers", type=int, help="layers of the transformers, to try it on a CPU")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def _limit(device: torch.device, gigabytes: float | None) -> str:
    """Limit torch's memory on the card; returns a description of the card."""
    if device.type != "cuda":
        return f"{device}"
    total = torch.cuda.get_device_properties(device).total_memory
    name = f"{torch.cuda.get_device_name(device)} of {total / 1e9:.0f} GB"
    if gigabytes is None:
        return name
    torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total))
    return f"{name}, of which torch may have {gigabytes:g} GB"


def assemble(
    published: Published, device: torch.device, dtype: torch.dtype, layers: int | None = None
) -> VideoPurePipeline:
    """The pipeline of a published configuration, with random weights."""
    changes = {} if layers is None else {"num_layers": layers}
    denoiser = random_weights(partial(published.denoiser, **changes), device, dtype)
    place = find_family(denoiser).folder
    tokens, features = published.prompt
    prompt = torch.randn(1, tokens, features, device=device, dtype=dtype)
    pipeline = VideoPurePipeline(
        vae=random_weights(published.codec, device, dtype),
        scheduler=published.scheduler(),
        prompt_embedding=PromptEmbedding.from_tensor(prompt),
        **{"unet": None, place: denoiser},
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def measurements(
    pipeline: VideoPurePipeline, clip: Tensor, *, replayed: bool = False
) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """What is measured: the parts, whole answers, and one with models offloaded to the CPU."""
    frames = clip.shape[1]
    latents = torch.no_grad()(pipeline.encode)(clip)
    predict = partial(pipeline.predict_noise, latents, HIGHEST)
    yield "a call of the denoiser", predict
    if replayed:
        pipeline.cuda_graphs = True
        yield "the call, replayed as a CUDA graph", predict
        pipeline.cuda_graphs, pipeline._graphs = False, None
        return
    yield "encoding", partial(pipeline.encode, clip)
    yield "decoding one vote", partial(pipeline.decode, latents, frames)
    height, width = clip.shape[-2:]
    recogniser = Brightness("brightness", frames, (height, width), ["bright", "dark"])
    for name, settings in SERVED.items():
        yield name, partial(_answer, DefendedRecogniser(pipeline, recogniser, settings), clip)
    if clip.is_cuda:
        pipeline.enable_model_cpu_offload()
        yield "one look, parts wait on the CPU", partial(_one_look, pipeline, clip)
        pipeline.remove_all_hooks()
        pipeline.to(clip.device)


def _answer(defended: DefendedRecogniser, clip: Tensor) -> Tensor:
    (verdict,) = defended.answer(clip).verdicts
    return verdict.probabilities


def _one_look(pipeline: VideoPurePipeline, clip: Tensor) -> Tensor:
    output: Any = pipeline(clip, method="one_look")
    candidates: Tensor = output.candidates
    return candidates


@torch.no_grad()
def measure(call: Callable[[], Tensor], device: torch.device) -> tuple[float | None, float]:
    """Median milliseconds of a call after a warm-up, and peak memory in GB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        answer = call()  # warm-up, in which cuDNN chooses its algorithms
    except torch.OutOfMemoryError:
        return None, peak_memory(device) / 1e9
    if not answer.isfinite().all():
        raise SystemExit("an answer is not finite")
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call().sum().item()  # waits for the device
        spent.append(1000 * (time.perf_counter() - start))
    return statistics.median(spent), peak_memory(device) / 1e9


if __name__ == "__main__":
    main()
