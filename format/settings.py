"""model-config.yaml: TorchServe's own keys and the `videopure` section, checked as a whole."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

import torch
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from videopure.format.limits import Limits
from videopure.purifier import PurifySettings

__all__ = [
    "DTYPES",
    "Calibration",
    "Detail",
    "Dtype",
    "GuardedOption",
    "HandlerSettings",
    "Limits",
    "ModelConfig",
    "Policy",
    "SettingsError",
    "Similarity",
    "Weights",
    "flat_keys",
    "read_yaml",
]

Dtype = Literal["float32", "float16", "bfloat16"]
# Options of a request that weaken the defence or fix its random draws.
GuardedOption = Literal["purify", "method", "inversion_steps", "votes", "seed"]
Detail = Literal["label", "scores", "full"]
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in get_args(Dtype)}


class SettingsError(ValueError):
    """The section cannot be used; the message names the key and the value."""


class _Section(BaseModel):
    # TorchServe silently ignores a misspelt key; we do not.
    model_config = ConfigDict(extra="forbid", frozen=True)


def _defaults_for_none(section: Any) -> Any:
    """A section that has only comments is None in YAML and means the defaults."""
    return {} if section is None else section


class Policy(_Section):
    """What clients may ask for and are told; requests with the operator's key are not bound."""

    clients_may: tuple[GuardedOption, ...] = Field(
        (), description="options that weaken or fix something and clients may set all the same"
    )
    answer: Detail = Field("scores", description="how much of the answer clients are told")
    decimals: int = Field(2, ge=0, le=6, description="of the scores that clients are told")
    max_work: int | None = Field(
        None,
        ge=1,
        description="clips times denoising steps of a request, for everyone; by default max_clips "
        "clips with the archive's own steps",
    )

    @staticmethod
    def guarded() -> tuple[GuardedOption, ...]:
        """The options that are the operator's unless `clients_may` names them."""
        return get_args(GuardedOption)


class Similarity(_Section):
    """A memory of each client's recent clips, to count near-duplicates."""

    clips: int = Field(
        0, ge=0, le=10_000, description="of a client that are remembered, the latest; 0: no memory"
    )
    clients: int = Field(200, ge=1, le=100_000, description="that are remembered, the latest")
    seconds: float = Field(3600, gt=0, description="for which a clip is remembered")
    distance: int = Field(
        16, ge=0, le=255, description="of near-duplicates in their local means, in 1/255, at most"
    )
    alarm_at: int = Field(20, ge=1, description="near-duplicates of a clip that raise the alarm")
    refuse_at: int | None = Field(
        None, ge=1, description="near-duplicates of a clip with which it is refused; null: never"
    )
    client_header: str | None = Field(
        None,
        min_length=1,
        description="header in which the proxy names the client; null: all clients are one",
    )

    @model_validator(mode="after")
    def _check_reach(self) -> Similarity:
        for name in ("alarm_at", "refuse_at"):
            wanted = getattr(self, name)
            if self.clips and wanted is not None and wanted > self.clips:
                raise ValueError(
                    f"similarity.{name} must be at most similarity.clips ({self.clips}), got "
                    f"{wanted}"
                )
        return self


class Weights(_Section):
    """Folders of a thin archive's weights on this machine; None: where they were found."""

    recogniser: str | None = None
    pipeline: str | None = None
    decoder: str | None = None
    flow: str | None = None


class Calibration(_Section):
    """How the thresholds of `purification` were found; `videopure calibrate` writes it."""

    clips: int = Field(0, ge=0, description="clean clips; 0 where nothing was calibrated")
    false_alarms: float = Field(0.0, ge=0, lt=1, description="share of them that was aimed at")
    settings: tuple[str, ...] = Field(
        (), description="keys of purification that were not left to their defaults"
    )


class HandlerSettings(_Section):
    """All settings of a worker."""

    dtype: Literal["auto", Dtype] = Field(
        "auto", description="auto: float16 on a GPU, float32 on a CPU"
    )
    max_clips_per_forward: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        4, description="clips purified together; auto: as many as fit the free memory"
    )
    max_inversion_steps: int = Field(10, ge=0, description="the most that a request may ask for")
    max_clips: int = Field(10, ge=1, description="the most that a request may ask for")
    default_clips: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="clips of a video whose request does not say; auto: by clip_stride"
    )
    clip_stride: float = Field(
        4.0, gt=0, description="seconds of a video that each clip may cover with clips auto"
    )
    random_phase: bool = Field(
        False, description="draw for each request which frames of their shares are looked at"
    )
    threads: int | None = Field(
        None, ge=1, description="of torch; default: OMP_NUM_THREADS or all cores"
    )
    warm_up: bool = True
    allow_programs: bool = Field(
        False, description="load a recogniser that is a program, which is code"
    )
    cuda_graphs: bool = Field(False, description="launch the UNet's kernels as one on a GPU")
    purification: PurifySettings = PurifySettings()
    calibration: Calibration = Calibration()
    policy: Policy = Policy()
    similarity: Similarity = Similarity()
    limits: Limits = Limits()
    weights: Weights = Weights()

    _empty = field_validator(
        *("purification", "calibration", "policy", "similarity", "limits", "weights"), mode="before"
    )(_defaults_for_none)

    @model_validator(mode="after")
    def _check_steps(self) -> HandlerSettings:
        steps = self.purification.num_inference_steps
        drawn = self.purification.randomisation.step_range
        for name, value in (
            ("max_inversion_steps", self.max_inversion_steps),
            ("purification.inversion_steps", self.purification.inversion_steps),
            ("purification.randomisation.step_range", drawn[1] if drawn else 0),
        ):
            if value >= steps:
                raise ValueError(
                    f"{name} must be below purification.num_inference_steps ({steps}), got {value}"
                )
        if self.default_clips != "auto" and self.default_clips > self.max_clips:
            raise ValueError(
                f"default_clips must be at most max_clips ({self.max_clips}), got "
                f"{self.default_clips}"
            )
        return self

    @model_validator(mode="after")
    def _check_work(self) -> HandlerSettings:
        if self.max_work < self.own_steps:
            raise ValueError(
                f"policy.max_work must allow a clip the archive's own {self.own_steps} denoising "
                f"steps, got {self.max_work}"
            )
        return self

    @property
    def purification_in_words(self) -> tuple[str, ...]:
        """The keys of purification that are not left to their defaults, except thresholds."""
        own = flat_keys(asdict(self.purification))
        usual = flat_keys(asdict(PurifySettings()))
        return tuple(
            f"{key}={value}"
            for key, value in own.items()
            if value != usual[key] and not key.endswith("_threshold")
        )

    @property
    def outdated_calibration(self) -> str | None:
        """How the settings differ from the calibrated ones; None if they do not."""
        made, now = self.calibration.settings, self.purification_in_words
        if not self.calibration.clips or made == now:
            return None
        before = ", ".join(key for key in made if key not in now) or "the defaults"
        after = ", ".join(key for key in now if key not in made) or "the defaults"
        return f"calibrated for {before}, and set to {after}"

    @property
    def own_steps(self) -> int:
        """The most denoising steps of a clip whose request sets none."""
        drawn = self.purification.randomisation.step_range
        return 1 + (drawn[1] if drawn else self.purification.inversion_steps)

    @property
    def max_work(self) -> int:
        """Clips times denoising steps that a request may take."""
        chosen = self.policy.max_work
        return self.max_clips * self.own_steps if chosen is None else chosen

    @classmethod
    def parse(cls, section: Any) -> HandlerSettings:
        """Check the section as YAML gives it; None means the defaults.

        Raises:
            SettingsError: naming every wrong key and its value.
        """
        return ModelConfig.parse({"videopure": section}).videopure

    def torch_dtype(self, device: torch.device) -> torch.dtype:
        """The dtype that the models compute in on a device."""
        if self.dtype == "auto":
            return torch.float32 if device.type == "cpu" else torch.float16
        return DTYPES[self.dtype]


class ModelConfig(_Section):
    """The whole of model-config.yaml.

    The first keys are those of TorchServe 0.12 that apply to this handler, named and typed as
    TorchServe reads them; it silently ignores a misspelt or mistyped key. Those for several devices
    per worker, streams and sequences are omitted: this handler has none of them.
    """

    # TorchServe does not accept "4" for 4.
    model_config = ConfigDict(strict=True)

    batchSize: int = Field(4, ge=1)
    maxBatchDelay: int = Field(50, ge=0)
    responseTimeout: int = Field(120, ge=1)
    startupTimeout: int = Field(300, ge=1)
    maxRetryTimeoutInSec: int = Field(300, ge=1)
    jobQueueSize: int | None = Field(None, ge=1)
    useJobTicket: bool = False
    minWorkers: int | None = Field(None, ge=0)
    maxWorkers: int | None = Field(None, ge=0)
    deviceType: Literal["cpu", "gpu"] | None = None
    deviceIds: list[int] | None = None
    videopure: HandlerSettings = HandlerSettings()

    _empty = field_validator("videopure", mode="before")(_defaults_for_none)

    @model_validator(mode="after")
    def _check_decoding(self) -> ModelConfig:
        # TorchServe kills a worker that decodes longer, and its whole batch gets an error.
        most, asked = self.responseTimeout / 2, self.videopure.limits.max_decode_seconds
        if asked > most:
            raise ValueError(
                f"videopure.limits.max_decode_seconds must be at most half of responseTimeout "
                f"({most:g}), got {asked:g}"
            )
        return self

    @classmethod
    def parse(cls, config: Any) -> ModelConfig:
        """Check the file's content as YAML gives it; None means the defaults.

        Raises:
            SettingsError: naming every wrong key and its value.
        """
        try:
            return cls.model_validate({} if config is None else config)
        except ValidationError as error:
            faults = "; ".join(map(_fault, error.errors()))
            raise SettingsError(f"model-config.yaml: {faults}") from None


def read_yaml(text: str, name: str) -> Any:
    """Parse YAML in which no key may appear twice: the second would silently win.

    Raises:
        SettingsError: naming the file and the place.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_duplicates(node, name)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{name} is not YAML: {error}") from None


def _check_duplicates(node: yaml.Node | None, name: str) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        if key.value in seen:
            line = key.start_mark.line + 1
            raise SettingsError(f"{name}: key {key.value!r} appears twice, again in line {line}")
        seen.add(key.value)
        _check_duplicates(value, name)


def flat_keys(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones: `videopure.purification.inversion_steps`."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            flat |= flat_keys(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _fault(fault: Any) -> str:
    message = fault["msg"]
    key = ".".join(map(str, fault["loc"]))
    if fault["type"] in _UNKNOWN_KEY:
        message = "Extra inputs are not permitted" + _near_miss(fault["loc"])
    if fault["type"] == "value_error":  # about several keys together; the message names them
        return f"{key}: {message}" if key else message
    return f"{key}: {message}, got {fault['input']!r}" if key else message


# Pydantic's name for it in a model, and in a dataclass.
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


def _near_miss(location: tuple[int | str, ...]) -> str:
    """The known key that a misspelt one may stand for."""
    known = _keys(ModelConfig)
    for name in location[:-1]:
        known = _keys(known[str(name)])
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _keys(section: Any) -> dict[str, Any]:
    """The keys of a section, a model or a dataclass, with the types of their values."""
    if is_dataclass(section):
        return get_type_hints(section)
    return {name: field.annotation for name, field in section.model_fields.items()}
