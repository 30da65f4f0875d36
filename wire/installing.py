"""How to install missing packages: one text for every error, hint and page.

VideoPure is on no package index, and a package of that name there would be somebody else's. Install
an extra from the checkout, or from the wheel that `make dist` builds.
"""

from __future__ import annotations

import sys

__all__ = ["EXTRAS", "install_command", "install_hint"]

# Optional parts, as pyproject.toml names them.
EXTRAS = frozenset(
    {
        *("art", "browser", "demo", "docs", "evaluate", "ray", "serve", "sign", "torchvision"),
        *("transformers", "web", "worker"),
    }
)


def install_command(extra: str, python: str | None = None) -> str:
    """The command that installs an extra, to be run in the checkout's folder.

    Args:
        extra: one of `EXTRAS`.
        python: interpreter to install into; by default the running one.

    Raises:
        ValueError: if there is no such extra.
    """
    if extra not in EXTRAS:
        raise ValueError(f"extra must be one of {', '.join(sorted(EXTRAS))}, got {extra!r}")
    return f"{python or sys.executable} -m pip install --editable '.[{extra}]'"


def install_hint(extra: str) -> str:
    """The hint in errors: where to run the command, and the command."""
    return f"in the folder of your VideoPure checkout, run: {install_command(extra)}"
