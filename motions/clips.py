"""The demo's clips: an endless seeded stream of a sprite that moves in one of ten ways.

A clip shows one textured sprite over a smooth background, filmed by a slightly shaking camera,
with sensor noise and JPEG artefacts. Appearance, position, size and orientation of the sprite have
the same distribution in all classes, so no single frame reveals the class: only the motion does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLASSES",
    "FPS",
    "FRAME_SIZE",
    "NUM_FRAMES",
    "SPLITS",
    "Split",
    "Stream",
    "contact_sheet",
    "make_clip",
    "write_video",
]

CLASSES: tuple[str, ...] = (
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "turns left",
    "turns right",
    "grows",
    "shrinks",
    "oscillates",
    "blinks",
)
NUM_FRAMES = 16
FRAME_SIZE = 64
FPS = 8

Split = Literal["train", "validation", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "calibration", "test")
# Seeds of a split share their upper bits, so no clip can be in two splits.
_CLIPS_PER_SPLIT = 1 << 48

Frames = NDArray[np.uint8]
Array = NDArray[np.float32]

# The sprite is drawn once on a square canvas and then placed in every frame. Frames are drawn at
# twice their size and averaged down, so that edges move smoothly.
_CANVAS = 80
_CANVAS_RADIUS = 32.0
_SUPERSAMPLING = 2
_MARGIN = 8  # background beyond the frame, for the shaking camera


@dataclass(frozen=True)
class _Path:
    """Where the sprite is in each frame; every array has shape [frames]."""

    x: Array  # pixels
    y: Array
    angle: Array  # degrees, counter-clockwise
    radius: Array  # pixels
    second_palette: NDArray[np.bool_]


@dataclass(frozen=True)
class Stream:
    """The clips of one split; clip `i` is always the same, and the classes alternate.

    Args:
        split: "train", "validation", "calibration" or "test"; no clip is in two of them.
    """

    split: Split

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")

    def clip(self, i: int) -> tuple[Frames, int]:
        """Clip number `i` (from 0): uint8 frames [16, 64, 64, 3] in RGB, and its class."""
        if not 0 <= i < _CLIPS_PER_SPLIT:
            raise ValueError(f"i must be in 0..{_CLIPS_PER_SPLIT - 1}, got {i}")
        label_id = i % len(CLASSES)
        return make_clip(label_id, SPLITS.index(self.split) * _CLIPS_PER_SPLIT + i), label_id

    def batch(self, start: int, count: int) -> tuple[Frames, NDArray[np.int64]]:
        """Clips `start` to `start + count - 1`: uint8 [N, 16, 64, 64, 3], classes int64 [N]."""
        clips, labels = zip(*(self.clip(i) for i in range(start, start + count)), strict=True)
        return np.stack(clips), np.array(labels, dtype=np.int64)


def make_clip(label_id: int, seed: int) -> Frames:
    """Draw one clip.

    Args:
        label_id: index into `CLASSES`.
        seed: any non-negative integer; the same seed gives the same clip.

    Returns:
        uint8 frames [16, 64, 64, 3] in RGB.

    Raises:
        ValueError: if there is no such class, or the seed is negative.
    """
    if not 0 <= label_id < len(CLASSES):
        raise ValueError(f"label_id must be in 0..{len(CLASSES) - 1}, got {label_id}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    rng = np.random.default_rng(seed)
    path = _path(CLASSES[label_id], rng)
    background, brightness = _background(rng)
    shape, pattern = _shape(rng), _pattern(rng)
    palettes = _palettes(rng, brightness)
    sprites = [_sprite(shape, pattern, palette) for palette in palettes]
    shake = _smooth_walk(rng, 2, 0.45)  # [2, frames]
    return _film(path, background, sprites, shake, rng)


def _path(name: str, rng: np.random.Generator) -> _Path:
    """The motion of the class, plus a little of every other motion."""
    u = np.linspace(-0.5, 0.5, NUM_FRAMES, dtype=np.float32)
    centre = FRAME_SIZE / 2
    x = centre + rng.uniform(-16, 16) + rng.uniform(-3, 3) * u
    y = centre + rng.uniform(-16, 16) + rng.uniform(-3, 3) * u
    angle = rng.uniform(0, 360) + rng.uniform(-8, 8) * u
    radius = rng.uniform(9, 14) * (1 + rng.uniform(-0.06, 0.06) * u)
    second = np.zeros(NUM_FRAMES, dtype=bool)
    sign = -1 if name in ("moves left", "moves up", "turns right", "shrinks") else 1
    if name in ("moves left", "moves right"):
        x = centre + rng.uniform(-5, 5) + sign * rng.uniform(22, 36) * u
    elif name in ("moves up", "moves down"):
        y = centre + rng.uniform(-5, 5) + sign * rng.uniform(22, 36) * u
    elif name in ("turns left", "turns right"):
        angle = angle + sign * rng.uniform(130, 260) * u
    elif name in ("grows", "shrinks"):
        radius = rng.uniform(10, 13) * rng.uniform(1.9, 2.6) ** (sign * u)
    elif name == "oscillates":
        phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(NUM_FRAMES) / rng.uniform(6, 9)
        swing = rng.uniform(6, 10) * np.sin(phase)
        direction = rng.uniform(0, 2 * np.pi)
        x, y = x + swing * np.cos(direction), y + swing * np.sin(direction)
    else:  # blinks: it alternates between two palettes, each as of any other sprite
        half_period = int(rng.integers(2, 5))
        second = (np.arange(NUM_FRAMES) + int(rng.integers(0, 8))) // half_period % 2 == 1
    x, y, angle, radius = (np.asarray(a, dtype=np.float32) for a in (x, y, angle, radius))
    return _Path(x, y, angle, radius, second)


def _smooth_walk(rng: np.random.Generator, count: int, sigma: float) -> Array:
    """`count` slow random movements with standard deviation `sigma` pixels: [count, frames]."""
    steps = rng.normal(0, 1, (count, NUM_FRAMES + 4)).astype(np.float32)
    kernel = np.array([1, 3, 4, 3, 1], dtype=np.float32)
    kernel /= np.sqrt((kernel**2).sum())
    walks = [np.convolve(row, kernel, mode="valid") for row in steps]
    return (sigma * np.stack(walks)).astype(np.float32)


def _field(rng: np.random.Generator, cells: int, size: int, channels: int) -> Array:
    """A smooth random field [size, size, channels] in about -1..1, `cells` cells on a side."""
    grid = rng.uniform(-1, 1, (cells + 2, cells + 2, channels)).astype(np.float32)
    field = cv2.resize(grid, (size + size // 2, size + size // 2), interpolation=cv2.INTER_CUBIC)
    start = size // 4
    return np.asarray(field.reshape(*field.shape[:2], channels)[start:, start:][:size, :size])


def _background(rng: np.random.Generator) -> tuple[Array, float]:
    """A smooth background [H + margin, W + margin, 3] in 0..1 and its mean brightness."""
    size = FRAME_SIZE + 2 * _MARGIN
    brightness = float(rng.uniform(0.3, 0.7))
    tint = rng.uniform(-0.08, 0.08, 3)
    image = brightness + tint + 0.07 * _field(rng, 2, size, 3) + 0.05 * _field(rng, 4, size, 1)
    return np.clip(image, 0, 1).astype(np.float32), brightness


def _palettes(rng: np.random.Generator, brightness: float) -> list[Array]:
    """A bright and a dark palette in random order, two colours [2, 3] each in 0..1."""
    hue = rng.uniform(-0.12, 0.12, (2, 2, 3))
    bright = brightness + rng.uniform(0.28, 0.4) + np.array([[0.08], [-0.14]]) + hue[0]
    dark = brightness - rng.uniform(0.28, 0.4) + np.array([[-0.08], [0.14]]) + hue[1]
    palettes = [np.clip(p, 0, 1).astype(np.float32) for p in (bright, dark)]
    return palettes if rng.random() < 0.5 else palettes[::-1]


def _polar() -> tuple[Array, Array]:
    """Distance (in sprite radii) and direction of every canvas pixel."""
    axis = (np.arange(_CANVAS, dtype=np.float32) + 0.5 - _CANVAS / 2) / _CANVAS_RADIUS
    across, down = np.meshgrid(axis, axis)
    return np.hypot(across, down), np.arctan2(down, across)


def _shape(rng: np.random.Generator) -> Array:
    """The sprite's opacity [canvas, canvas] in 0..1: a long blob, rounded polygon, star or heart.

    None of them looks the same after less than a full turn, so turning is always visible.
    """
    distance, theta = _polar()
    kind = rng.integers(0, 4)
    if kind == 0:  # ellipse
        aspect = rng.uniform(0.45, 0.65)
        edge = aspect / np.sqrt((aspect * np.cos(theta)) ** 2 + np.sin(theta) ** 2)
    elif kind == 1:  # rounded box
        half = rng.uniform(0.4, 0.6)
        long_side = np.abs(np.cos(theta)) ** 6 + np.abs(np.sin(theta) / half) ** 6
        edge = 0.95 * long_side ** (-1 / 6)
    elif kind == 2:  # star or clover with one long arm
        arms = int(rng.integers(3, 6))
        edge = 0.62 + 0.2 * np.cos(arms * theta) + 0.18 * np.cos(theta)
    else:  # pear
        edge = 0.62 + 0.18 * np.cos(theta) + rng.uniform(0.14, 0.2) * np.cos(2 * theta)
    return np.clip((edge - distance) * _CANVAS_RADIUS / 2 + 0.5, 0, 1).astype(np.float32)


def _pattern(rng: np.random.Generator) -> Array:
    """Share of the palette's second colour in each canvas pixel: [canvas, canvas] in 0..1."""
    distance, theta = _polar()
    across, down = distance * np.cos(theta), distance * np.sin(theta)
    kind = rng.integers(0, 4)
    if kind == 0:  # stripes
        value = np.sin(rng.uniform(4, 7) * across + rng.uniform(0, 6))
    elif kind == 1:  # halves
        value = 2 * across + rng.uniform(-0.4, 0.4)
    elif kind == 2:  # spot
        value = 0.45 - np.hypot(across - rng.uniform(0.2, 0.45), down)
    else:  # cloud
        value = 1.5 * _field(rng, 3, _CANVAS, 1)[..., 0]
    return np.clip(3 * value + 0.5, 0, 1).astype(np.float32)


def _sprite(shape: Array, pattern: Array, palette: Array) -> Array:
    """Premultiplied colour and opacity of the sprite: [canvas, canvas, 4] in 0..1."""
    colour = palette[0] * (1 - pattern[..., None]) + palette[1] * pattern[..., None]
    return np.concatenate((colour * shape[..., None], shape[..., None]), axis=-1)


def _film(
    path: _Path, background: Array, sprites: list[Array], shake: Array, rng: np.random.Generator
) -> Frames:
    """Place, light, expose and compress every frame: uint8 [frames, H, W, 3]."""
    fine = FRAME_SIZE * _SUPERSAMPLING
    frames = np.empty((NUM_FRAMES, FRAME_SIZE, FRAME_SIZE, 3), dtype=np.float32)
    for k in range(NUM_FRAMES):
        dx, dy = float(shake[0, k]), float(shake[1, k])
        view = np.array([[1, 0, dx - _MARGIN], [0, 1, dy - _MARGIN]], dtype=np.float32)
        behind = cv2.warpAffine(background, view, (FRAME_SIZE, FRAME_SIZE))
        scale = _SUPERSAMPLING * float(path.radius[k]) / _CANVAS_RADIUS
        place = cv2.getRotationMatrix2D((_CANVAS / 2, _CANVAS / 2), float(path.angle[k]), scale)
        place[:, 2] += _SUPERSAMPLING * np.array([path.x[k] + dx, path.y[k] + dy]) - _CANVAS / 2
        layer = cv2.warpAffine(sprites[int(path.second_palette[k])], place, (fine, fine))
        layer = cv2.resize(layer, (FRAME_SIZE, FRAME_SIZE), interpolation=cv2.INTER_AREA)
        frames[k] = behind * (1 - layer[..., 3:]) + layer[..., :3]
    exposure = 1 + _smooth_walk(rng, 1, 0.008)[0]
    frames *= exposure[:, None, None, None]
    frames += rng.uniform(0.003, 0.008) * rng.standard_normal(frames.shape, dtype=np.float32)
    pixels = np.clip(np.rint(frames * 255), 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(85, 98))]
    return np.stack([_recompress(frame, quality) for frame in pixels])


def _recompress(frame: Frames, quality: list[int]) -> Frames:
    """One RGB frame through JPEG and back."""
    encoded = cv2.imencode(".jpg", frame[..., ::-1], quality)[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV could not decode a JPEG that it had just encoded")
    return np.asarray(decoded[..., ::-1], dtype=np.uint8)


def write_video(
    frames: Frames,
    path: str | Path,
    codec: str | None = None,
    fps: int = FPS,
    *,
    lossless: bool = True,
) -> Path:
    """Write a clip as a video file.

    Args:
        frames: uint8 [T, H, W, 3] in RGB.
        path: output file; the suffix selects the container (.mp4, .webm, .mkv).
        codec: an FFmpeg encoder; by default H.264 for mp4 and mkv, VP9 for webm.
        fps: frames per second.
        lossless: keep every pixel (in RGB if the encoder can), so that an attack survives;
            otherwise the encoder's default quality, with halved colour resolution.

    Returns:
        The path.

    Raises:
        ValueError: if frames have the wrong shape or type, or the suffix has no default codec.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}"
        )
    path = Path(path)
    defaults = {".mp4": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9"}
    if codec is None:
        if path.suffix not in defaults:
            raise ValueError(
                f"path must end in one of {', '.join(defaults)} where codec is not given, "
                f"got {path.name}"
            )
        codec = defaults[path.suffix]
    if lossless and codec == "libx264":
        codec = "libx264rgb"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        if codec == "libx264rgb":
            stream.pix_fmt, stream.options = "rgb24", {"crf": "0"}
        elif lossless and codec == "libvpx-vp9":
            stream.pix_fmt, stream.options = "gbrp", {"lossless": "1"}
        else:
            stream.pix_fmt = "yuv420p"
        for array in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def contact_sheet(path: str | Path, split: Split = "test", every: int = 2, zoom: int = 2) -> Path:
    """Write a PNG with one row per class: its name, and every `every`-th frame of a clip."""
    stream, rows, name_width = Stream(split), [], 110
    for label_id, name in enumerate(CLASSES):
        clip, _ = stream.clip(label_id)
        strip = np.concatenate(list(clip[::every]), axis=1).repeat(zoom, 0).repeat(zoom, 1)
        label = np.full((strip.shape[0], name_width, 3), 255, dtype=np.uint8)
        where = (6, strip.shape[0] // 2)
        cv2.putText(label, name, where, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        rows.append(np.concatenate((label, strip), axis=1))
    sheet = np.ascontiguousarray(np.concatenate(rows)[..., ::-1])
    if not cv2.imwrite(str(path), sheet):
        raise OSError(f"could not write {path}")
    return Path(path)


if __name__ == "__main__":
    print(contact_sheet("contact-sheet.png"))
