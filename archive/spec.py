"""What an archive is to be built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videopure.handler.settings import ModelConfig

__all__ = ["BuildError", "BuildSpec", "Report"]

Report = Callable[[str], object]


class BuildError(ValueError):
    """The archive cannot be built; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """Everything that `videopure build` can be told.

    Args:
        recogniser: folder that `load_recogniser` reads.
        pipeline: diffusers folder; a text encoder in it is used once, for the prompt embedding,
            and left out.
        out: the archive to write, ending in `.mar`; an older one is replaced.
        name: the model's name in TorchServe; by default that of `out` must be the same.
        version: of the model.
        purifier_name: what the answers call the purifier; by default the pipeline folder's name.
        config: model-config.yaml: TorchServe's own keys and the `videopure` section; see
            `ModelConfig`.
        accept_licence: agree to licences that restrict use.
    """

    recogniser: Path
    pipeline: Path
    out: Path
    name: str = "videopure"
    version: str = "1.0"
    purifier_name: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    accept_licence: bool = False

    def check(self) -> ModelConfig:
        """The checked configuration.

        Raises:
            BuildError: naming an argument that cannot be used.
            SettingsError: naming a key or value of the configuration that cannot.
        """
        if self.out.suffix != ".mar":
            raise BuildError(f"out must end in .mar, got {self.out}")
        for argument in ("recogniser", "pipeline"):
            folder: Path = getattr(self, argument)
            if not folder.is_dir():
                raise BuildError(f"{argument} {folder} is not a folder")
        return ModelConfig.parse(self.config)
