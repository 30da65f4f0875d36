"""Builds and checks `videopure.mar`.

May import handler, format, purifier and wire.
"""

from videopure.archive.build import build, build_archive
from videopure.archive.spec import BuildError, BuildSpec
from videopure.format.opening import ArchiveSummary, inspect_archive, verify_archive

__all__ = [
    "ArchiveSummary",
    "BuildError",
    "BuildSpec",
    "build",
    "build_archive",
    "inspect_archive",
    "verify_archive",
]
