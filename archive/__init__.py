"""Builds and checks `videopure.mar`."""

from videopure.archive.build import BuildError, build_archive
from videopure.archive.bundle import demo_bundle, demo_settings

__all__ = ["BuildError", "build_archive", "demo_bundle", "demo_settings"]
