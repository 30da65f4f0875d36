"""No defence, and simple filters that might also remove attacks: purification must beat them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import av
import cv2
import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from videopure.evaluation.defences.base import Cleaned, Defence
from videopure.purifier.defended import DefendedRecogniser

__all__ = [
    "H264",
    "JPEG",
    "NONE",
    "defences",
    "gaussian_blur",
    "h264",
    "jpeg",
    "temporal_median",
    "temporal_shuffle",
]

NONE = "none"
JPEG = "JPEG quality 20"
H264 = "H.264 crf 35"

SMOOTHING_SIGMA = 0.03
SMOOTHING_DRAWS = 8


def jpeg(clips: Tensor, quality: int = 20) -> Tensor:
    """Every frame of clips [B, T, 3, H, W] in 0..1 through JPEG and back."""
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be in 1..100, got {quality}")
    frames = (clips * 255).round().byte().flatten(0, 1).permute(0, 2, 3, 1).cpu()  # [N, H, W, 3]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    coded = [
        np.asarray(cv2.imdecode(cv2.imencode(".jpg", f[..., ::-1], options)[1], cv2.IMREAD_COLOR))
        for f in frames.numpy()
    ]
    decoded = torch.from_numpy(np.stack(coded)[..., ::-1].copy()).permute(0, 3, 1, 2)
    return (decoded.to(clips) / 255).unflatten(0, clips.shape[:2])


def h264(clips: Tensor, crf: int = 35) -> Tensor:
    """Clips [B, T, 3, H, W] in 0..1 through an H.264 file of constant quality `crf` and back.

    The result is reproducible on any number of cores. x264's code for AVX-512 is not (its
    macroblock tree depends on the memory behind a row), other instruction sets round differently,
    and its stream depends on the number of threads: so it runs in plain C on one thread.
    """
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must be in 0..51, got {crf}")
    pixels = (clips * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()  # [B, T, H, W, 3]
    options = {"crf": str(crf), "x264-params": "asm=0:threads=1"}
    decoded = []
    for frames in pixels:
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=8, options=options)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for array in frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        file.seek(0)
        with av.open(file) as container:
            back = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        decoded.append(np.stack(back))
    return torch.from_numpy(np.stack(decoded)).permute(0, 1, 4, 2, 3).to(clips) / 255


def gaussian_blur(clips: Tensor, sigma: float = 2.0) -> Tensor:
    """Every frame of clips [B, T, 3, H, W] blurred; `sigma` in pixels."""
    if sigma <= 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    radius = int(3 * sigma + 0.5)
    x = torch.arange(-radius, radius + 1).to(clips)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    frames = F.pad(clips.flatten(0, 1), (radius,) * 4, mode="reflect")
    across = F.conv2d(frames, kernel.view(1, 1, 1, -1).expand(3, 1, 1, -1), groups=3)
    both = F.conv2d(across, kernel.view(1, 1, -1, 1).expand(3, 1, -1, 1), groups=3)
    return both.unflatten(0, clips.shape[:2])


def temporal_median(clips: Tensor, size: int = 3) -> Tensor:
    """Every pixel of clips [B, T, 3, H, W] replaced by its median over `size` frames."""
    if size < 3 or size % 2 == 0:
        raise ValueError(f"size must be odd and at least 3, got {size}")
    half = size // 2
    first, last = clips[:, :1], clips[:, -1:]
    padded = torch.cat((*(first,) * half, clips, *(last,) * half), dim=1)
    return padded.unfold(1, size, 1).median(dim=-1).values


def temporal_shuffle(clips: Tensor, window: int = 2, seed: int = 0) -> Tensor:
    """Frames of clips [B, T, 3, H, W] shuffled within every `window` neighbouring frames.

    (Shuffling of frames as a defence: arXiv 2112.07921.) All clips get the same order.
    """
    if not 2 <= window <= clips.shape[1]:
        raise ValueError(f"window must be in 2..{clips.shape[1]} frames, got {window}")
    generator = torch.Generator().manual_seed(seed)
    parts = torch.arange(clips.shape[1]).split(window)
    order = torch.cat([part[torch.randperm(len(part), generator=generator)] for part in parts])
    return clips[:, order]


def defences(defended: DefendedRecogniser) -> Iterator[Defence]:
    """All of them, in the order of the table."""
    recogniser, pipeline = defended.recogniser, defended.pipeline
    yield Cleaned(NONE, recogniser)
    yield Cleaned(JPEG, recogniser, lambda clips, _: jpeg(clips), exact=False)
    yield Cleaned(H264, recogniser, lambda clips, _: h264(clips), exact=False)
    yield Cleaned("Gaussian blur, sigma 2", recogniser, lambda clips, _: gaussian_blur(clips))
    yield Cleaned("temporal median of 3", recogniser, lambda clips, _: temporal_median(clips))
    yield Cleaned("temporal shuffle within 2", recogniser, _shuffle, randomised=True)
    yield Cleaned("randomised smoothing", recogniser, _smoothing, randomised=True)
    yield Cleaned(
        "codec round trip",
        recogniser,
        lambda clips, _: pipeline.decode(pipeline.encode(clips), clips.shape[1]),
    )


def _shuffle(clips: Tensor, seeds: Sequence[int]) -> Tensor:
    """Every clip in its own order."""
    pairs = zip(clips.split(1), seeds, strict=True)
    return torch.cat([temporal_shuffle(clip, seed=seed) for clip, seed in pairs])


def _smoothing(clips: Tensor, seeds: Sequence[int]) -> Tensor:
    """Noisy versions of every clip to vote on (arXiv 1902.02918): [B, V, T, 3, H, W]."""
    noisy = []
    for clip, seed in zip(clips, seeds, strict=True):
        generator = Generator().manual_seed(seed)
        noise = torch.randn((SMOOTHING_DRAWS, *clip.shape), generator=generator).to(clip)
        noisy.append((clip + SMOOTHING_SIGMA * noise).clamp(0, 1))
    return torch.stack(noisy)
