"""The folder in which an archive is assembled, and how weights get into it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from videopure.archive.hub import Source
from videopure.archive.sources import stored_dtype
from videopure.archive.spec import BuildSpec, Report
from videopure.archive.weights import copy_weights, read_pickled, save_weights
from videopure.format.external_weights import CompleteFiles
from videopure.format.integrity import FolderFiles
from videopure.format.manifest import ExternalWeights, FileRecord, digest
from videopure.format.settings import DTYPES

__all__ = ["Staging"]


@dataclass
class Staging:
    """The content of an archive that is being built.

    Args:
        root: the folder.
        dtype: dtype to convert weights to; None for no conversion.
        thin: leave weights where they are if they need no conversion.
        report: called with notes on conversions.
        located: the files that stay elsewhere, by their names in the archive.
        external_weights: the same by source, for the manifest.
    """

    root: Path
    dtype: torch.dtype | None
    thin: bool
    report: Report
    located: dict[str, Path] = field(default_factory=dict)
    external_weights: dict[str, ExternalWeights] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: BuildSpec, root: Path, report: Report) -> Staging:
        """An empty staging folder."""
        root.mkdir()
        return cls(root, spec.torch_dtype, spec.thin, report)

    @property
    def files(self) -> CompleteFiles:
        """Everything that belongs to the archive."""
        return CompleteFiles(FolderFiles(self.root), self.located)

    def records(self) -> dict[str, FileRecord]:
        """Size and digest of every file, by name."""
        records = {}
        for name in sorted(self.files.names()):
            with self.files.open(name) as file:
                records[name] = digest(file)
        return records

    def add_weights(
        self, part: str, source: Source, files: Sequence[Path], target: Path, stem: str
    ) -> None:
        """Add the files that `choose_weights` chose.

        Args:
            part: key of the source: recogniser, pipeline, decoder or flow.
            source: source of the files.
            files: one file of weights, or an index and its shards.
            target: folder in the archive.
            stem: name for a single file, so that the library finds it.
        """
        target.mkdir(parents=True, exist_ok=True)
        single = len(files) == 1
        for file in files:
            place = target / (f"{stem}.safetensors" if single else file.name)
            if file.suffix == ".json":
                shutil.copyfile(file, place)
            elif file.suffix != ".safetensors":
                self.report(f"Converting the pickled weights {file.name} of the {part}")
                save_weights(read_pickled(part, file), place, self.dtype)
            elif self.thin:
                self._leave(part, source, file, place)
            else:
                copy_weights(file, place, self.dtype)

    def dtype_of(self, folder: Path) -> torch.dtype:
        """The dtype of the first weights in a folder of the archive, here or elsewhere."""
        prefix = folder.relative_to(self.root).as_posix() + "/"
        names = [name for name in self.files.names() if name.startswith(prefix)]
        return DTYPES[stored_dtype([self.located.get(n, self.root / n) for n in names])]

    def _leave(self, part: str, source: Source, file: Path, place: Path) -> None:
        """Record where a file is instead of adding it."""
        name = place.relative_to(self.root).as_posix()
        folder = source.path if source.path.is_dir() else source.path.parent
        path = file.relative_to(folder).as_posix()
        known = self.external_weights.get(part)
        self.external_weights[part] = ExternalWeights(
            folder=None if source.repo else str(folder.resolve()),
            repo=source.repo,
            commit=source.commit,
            files={**(known.files if known else {}), name: path},
        )
        self.located[name] = file
