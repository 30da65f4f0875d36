"""Builds and checks `videopure.mar`."""

from videopure.archive.build import build, build_archive
from videopure.archive.bundle import demo_bundle, demo_settings
from videopure.archive.reading import ArchiveSummary, inspect_archive, verify_archive
from videopure.archive.spec import BuildError, BuildSpec

__all__ = [
    "ArchiveSummary",
    "BuildError",
    "BuildSpec",
    "build",
    "build_archive",
    "demo_bundle",
    "demo_settings",
    "inspect_archive",
    "verify_archive",
]
