"""Finds the folder of a model: a local one, or a snapshot from the Hugging Face hub.

The hub is used only at build time; nothing is fetched while serving.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

from videopure.archive.spec import BuildError

__all__ = ["Source", "find_source", "wanted_files"]

# Owner and name, and after an @ a branch, tag or commit.
_HUB_ID = re.compile(r"^(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?$")
_TEXTS = ("*.json", "*.txt", "*.model", "README.md", "LICENSE*", "LICENCE*")
_PICKLES = ("*pytorch_model*.bin",)
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Source:
    """Where a model was found.

    Args:
        path: the local folder.
        name: its name.
        origin: its origin for the record: a folder's name, or hub id and commit.
        repo, commit: on the hub; None for a folder.
    """

    path: Path
    name: str
    origin: str
    repo: str | None = None
    commit: str | None = None


def find_source(part: str, where: str | Path, folders: Sequence[str] = ()) -> Source:
    """The folder of a model, fetched from the hub if `where` is an id such as `owner/name`.

    Args:
        part: the model's role, for messages.
        where: a folder, or a hub id with or without `@revision`.
        folders: folders of the repository to fetch; none means its root.

    Raises:
        BuildError: if it is neither, or cannot be fetched.
    """
    path = Path(where)
    if path.is_dir():
        _check_links(part, path)
        name = path.resolve().name
        return Source(path, name, name)
    found = _HUB_ID.match(str(where))
    if found is None or path.is_absolute() or str(where).startswith("."):
        raise BuildError(f"{part} {where} is not a folder")
    if path.parent.is_dir():  # so it was meant as a path
        raise BuildError(f"{part} {where} is not a folder{_near_miss(path)}")
    folder = _snapshot(part, found["repo"], found["revision"], folders)
    commit = folder.name  # snapshots are kept under the commit's name
    repo = found["repo"]
    return Source(folder, repo.split("/")[1], f"{repo}@{commit}", repo, commit)


def _near_miss(path: Path) -> str:
    """The sibling folder that was probably meant."""
    beside = [other.name for other in path.parent.iterdir() if other.is_dir()]
    near = get_close_matches(path.name, beside, n=1)
    return f" (did you mean {path.parent / near[0]}?)" if near else ""


def _check_links(part: str, folder: Path) -> None:
    """Refuse links that lead out of a folder: through them its author could make us read other
    files.

    A snapshot in the hub's cache consists of links to neighbouring blobs, which are allowed.
    """
    resolved = folder.resolve()
    inside = [resolved]
    if resolved.parent.name == "snapshots":
        inside.append(resolved.parent.parent / "blobs")
    for file in folder.rglob("*"):
        target = file.resolve()
        if file.is_symlink() and not any(target.is_relative_to(place) for place in inside):
            raise BuildError(
                f"{part} {file} is a link out of its folder, to {target}: put the file itself there"
            )


def _snapshot(part: str, repo: str, revision: str | None, folders: Sequence[str]) -> Path:
    from huggingface_hub import HfApi, constants, errors, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    what = f"{part} {repo}" + (f"@{revision}" if revision else "")
    try:
        if constants.HF_HUB_OFFLINE:
            # No patterns: earlier fetches did not take the whole repository. A missing file is
            # named when it is read.
            return Path(
                snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[])
            )
        info = HfApi().model_info(repo, revision=revision)
        names = wanted_files([file.rfilename for file in info.siblings or []], folders)
        return Path(snapshot_download(repo, revision=revision, allow_patterns=names))
    except LocalEntryNotFoundError as error:
        raise BuildError(
            f"{what} is neither a folder nor in the hub's local cache: {_line(error)}"
        ) from error
    except HfHubHTTPError as error:  # no such repository, or gated
        raise BuildError(
            f"{what} is not a folder, and the hub refused it: {_line(error)}"
        ) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # of its library
        raise BuildError(
            f"{what} is not a folder, and the hub cannot be reached: {_line(error)}"
        ) from error


def _line(error: Exception) -> str:
    """An error's message in one line that is not too long."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def wanted_files(names: Iterable[str], folders: Sequence[str] = ()) -> list[str]:
    """The files of a repository that are needed.

    Safetensors are preferred to pickles, and weights to their variants (`model.fp16.safetensors`);
    the second choice is fetched only if there is nothing else.
    """
    places: dict[str, list[str]] = {}
    for name in names:
        folder, _, base = name.rpartition("/")
        if folder in ("", *folders):
            places.setdefault(folder, []).append(base)
    wanted = []
    for folder, bases in places.items():
        texts = [base for base in bases if _matches(base, _TEXTS)]
        weights = [] if folders and not folder else _weights(bases)
        wanted += [f"{folder}/{base}" if folder else base for base in (*texts, *weights)]
    return sorted(wanted)


def _weights(bases: list[str]) -> list[str]:
    for patterns in (("*.safetensors",), _PICKLES):
        files = [base for base in bases if _matches(base, patterns)]
        if plain := [base for base in files if not _is_variant(base)]:
            return plain
        if files:
            return files
    return []


def _is_variant(base: str) -> bool:
    """Whether a file of weights carries a variant's name: `model.fp16.safetensors`."""
    stem = base.rsplit(".", 1)[0]
    return "." in re.sub(r"-\d{5}-of-\d{5}", "", stem)


def _matches(base: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(base, pattern) for pattern in patterns)
