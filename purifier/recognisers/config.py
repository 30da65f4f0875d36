"""`config.json` of a recogniser folder in our own format, and the YAML beside a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from videopure.purifier.clip import Framing

__all__ = ["LAYOUTS", "RecogniserConfig"]

# Order of batch, time, channels, height and width in a model's input.
LAYOUTS = ("BTCHW", "BCTHW", "BTHWC")


@dataclass(frozen=True, kw_only=True)
class RecogniserConfig:
    """What describes a recogniser, apart from its weights.

    Args:
        kind: family and model, joined by a dot, such as `torchvision.r3d_18`.
        name: its name in the answers.
        num_frames: frames it takes.
        frame_size: (height, width) it takes.
        labels: class names, in the order of the logits.
        mean, std: for normalisation: one number each for red, green and blue in 0..1.
        layout: order of the axes of its input, one of `LAYOUTS`.
        resize: size before the centre crop: length of the shorter side, (height, width), or None
            for the smallest size that covers `frame_size`.
        interpolation: `bilinear` or `bicubic`.
        antialias: whether to antialias when scaling down.
        centre, sampling: see `Framing`.
        architecture: further arguments of the model's class.
        program: file name of a program; None if there are weights instead.
        batch_size: number of clips that a program takes at a time; None for any number.
    """

    kind: str
    name: str
    num_frames: int
    frame_size: tuple[int, int]
    labels: list[str]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: str = "BTCHW"
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    centre: str = "floor"
    sampling: str = "centre"
    architecture: dict[str, Any] = field(default_factory=dict)
    program: str | None = None
    batch_size: int | None = None

    @property
    def framing(self) -> Framing:
        """How frames of any size are prepared for the model."""
        return Framing(
            self.frame_size,
            self.resize,
            self.interpolation,
            self.antialias,
            self.centre,
            self.sampling,
        )

    @property
    def model(self) -> str:
        """The part of `kind` after the family."""
        return self.kind.partition(".")[2]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> RecogniserConfig:
        """Check the contents of a file.

        Raises:
            ValueError: naming the file, the key and the value.
        """
        known = {f.name for f in fields(cls)}
        for key in values:
            if key not in known:
                raise ValueError(f"{where}: unknown key {key!r}; known: {', '.join(sorted(known))}")
        for key in ("kind", "name", "num_frames", "frame_size", "labels"):
            if key not in values:
                raise ValueError(f"{where}: key {key!r} is missing")
        checked = {key: _checked(where, key, value) for key, value in values.items()}
        return cls(**checked)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON, without those that are defaults."""
        values = asdict(self)
        defaults = {f.name: f.default for f in fields(self)}
        return {
            key: value
            for key, value in values.items()
            if value != defaults[key] and not (key == "architecture" and not value)
        }


def _checked(where: str, key: str, value: Any) -> Any:
    """The value of a key, converted to the key's type."""
    problem: str | None = None
    if key in ("num_frames", "batch_size") and not (key == "batch_size" and value is None):
        if not _is_count(value):
            problem = "a whole number of at least 1"
    elif key in ("frame_size", "resize"):
        if isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_count, value)):
            value = tuple(value)
        elif key == "frame_size" or not (value is None or _is_count(value)):
            problem = "[height, width] in pixels"
    elif key in ("mean", "std"):
        if (
            not isinstance(value, list | tuple)
            or len(value) != 3
            or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
            or (key == "std" and min(value) <= 0)
        ):
            problem = "three numbers, of red, green and blue in 0..1"
        else:
            value = tuple(map(float, value))
    elif key == "labels":
        if not isinstance(value, list | tuple) or not value:
            problem = "a list of class names"
        else:
            value = [str(label) for label in value]
    elif key == "layout" and value not in LAYOUTS:
        problem = f"one of {', '.join(LAYOUTS)}"
    elif key == "antialias" and not isinstance(value, bool):
        problem = "true or false"
    elif key == "program" and (not isinstance(value, str) or "/" in value or "\\" in value):
        problem = "the name of a file in its folder"
    if problem is not None:
        raise ValueError(f"{where}: {key} must be {problem}, got {value!r}")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
