"""The files of a thin archive: located, checked like all others, and assembled.

A thin archive holds code and configurations. Its weights stay in a folder or in the hub's local
cache, and its manifest pins each by SHA-256. Nothing is ever fetched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from videopure.format.integrity import ArchiveFiles
from videopure.format.manifest import ExternalWeights, Manifest, ManifestError

__all__ = ["CompleteFiles", "complete_folder", "locate"]


def locate(manifest: Manifest, folders: Mapping[str, str | None]) -> dict[str, Path]:
    """Where the files are that the archive does not hold, by their names in it.

    Args:
        folders: folder of a source on this machine, if not where it was found.

    Raises:
        ManifestError: naming a missing file, and what to do.
    """
    for source, folder in folders.items():
        if folder is not None and source not in manifest.external_weights:
            known = (
                ", ".join(manifest.external_weights) or "none: the archive holds all its weights"
            )
            raise ManifestError(
                f"weights.{source} is set, but only these have external weights: {known}"
            )
    return {
        name: _find(source, name, path, weights, folders.get(source))
        for source, weights in manifest.external_weights.items()
        for name, path in weights.files.items()
    }


def _find(source: str, name: str, path: str, weights: ExternalWeights, folder: str | None) -> Path:
    where = folder or weights.folder
    way_out = f"set weights.{source} in model-config.yaml to the folder that holds {path}"
    if where is not None:
        found = Path(where) / path
        if not found.is_file():
            raise ManifestError(f"{name} is to be read from {found}, which is missing: {way_out}")
        return found
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(str(weights.repo), path, revision=weights.commit)
    if not isinstance(cached, str):
        raise ManifestError(
            f"{name} is to be read from {weights.repo}@{weights.commit}, which is not in the "
            f"hub's local cache: fetch it with `hf download {weights.repo} {path} --revision "
            f"{weights.commit}`, or {way_out}"
        )
    return Path(cached)


class CompleteFiles:
    """An archive's files and its external ones; see `ArchiveFiles`."""

    def __init__(self, files: ArchiveFiles, external: Mapping[str, Path]) -> None:
        self._files = files
        self._external = external

    def names(self) -> Iterator[str]:
        """See `ArchiveFiles.names`."""
        for name in self._files.names():
            if name in self._external:
                raise ManifestError(
                    f"{name} is in the archive, but its manifest says that it is external"
                )
            yield name
        yield from self._external

    def open(self, name: str) -> BinaryIO:
        """See `ArchiveFiles.open`."""
        if name in self._external:
            return self._external[name].open("rb")
        return self._files.open(name)


@contextmanager
def complete_folder(root: Path, external: Mapping[str, Path]) -> Iterator[Path]:
    """A folder that holds everything under its name in the archive, for loading.

    It is the archive's own if that holds everything; otherwise a temporary one of links.
    """
    if not external:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="videopure-") as name:
        folder = Path(name)
        own = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
        for target, path in {**own, **external}.items():
            if path.is_file():
                link = folder / target
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
        yield folder
