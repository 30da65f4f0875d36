"""Lets the tests import torchvision beside any build of torch.

A torchvision whose compiled part was made for another build of torch does not load, and breaks
transformers and diffusers with it. So the tests keep theirs out of the environment, in
build/torchvision, and declare the operators that its Python part wants to know of. Video models,
RAFT and the processors call none of them.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).parents[2] / "build" / "torchvision"
SITE = Path(__file__).parent / "site"
# Kept alive: a library's operators go when it does.
_LIBRARIES: list[torch.library.Library] = []


def allow() -> bool:
    """Make `import torchvision` work in this process; False where there is none at all."""
    found = importlib.util.find_spec("torchvision")
    if found is None:
        if not FOLDER.is_dir():
            return False
        sys.path.append(os.fspath(FOLDER))
    elif FOLDER not in Path(found.origin or "").parents and _loads():
        return True
    try:
        torch.ops.torchvision.nms  # noqa: B018
    except (AttributeError, RuntimeError):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
    return True


def _loads() -> bool:
    """Whether the environment's own torchvision fits its torch: it declares its operators itself.

    To declare them before it does ends the process.
    """
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        return False
    return True


def environment() -> dict[str, str]:
    """Environment variables with which other Python processes can import it, too."""
    path = [os.fspath(SITE), os.fspath(FOLDER), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}
