"""Writes constraints/serving.txt: the versions that are installed here of what serving needs.

    python -m constraints.serving

The images of deploy/docker are built with it. A CUDA build of torch brings packages of NVIDIA
beside these; torch pins them itself.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from constraints.closure import closure

ROOT = Path(__file__).parents[1]
SERVING = ROOT / "constraints" / "serving.txt"
EXTRAS = ("serve", "transformers")
HEAD = "# Written by `python -m constraints.serving`; deploy/docker/Dockerfile uses it.\n"


def requirements(pyproject: str) -> Iterator[str]:
    """What the extras of a pyproject.toml's text ask for, ours among them resolved."""
    project = tomllib.loads(pyproject)["project"]
    yield from project["dependencies"]
    pending = list(EXTRAS)
    while pending:
        for text in project["optional-dependencies"][pending.pop()]:
            if own := re.fullmatch(r"videopure\[(.*)\]", text):
                pending += own[1].split(",")
            else:
                yield text


def serving(pyproject: str) -> str:
    """The text of the constraints file for a pyproject.toml's text."""
    versions = closure(requirements(pyproject))
    # The build of torch is chosen apart: 2.13.0+cpu is 2.13.0.
    lines = (f"{name}=={version.partition('+')[0]}\n" for name, version in versions.items())
    return HEAD + "".join(sorted(lines))


if __name__ == "__main__":
    SERVING.write_text(serving((ROOT / "pyproject.toml").read_text()))
