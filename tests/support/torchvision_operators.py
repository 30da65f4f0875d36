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
    if importlib.util.find_spec("torchvision") is None:
        if not FOLDER.is_dir():
            return False
        sys.path.append(os.fspath(FOLDER))
    if not _loads():
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
    return True


def _loads() -> bool:
    """Whether its compiled part is for this torch: to declare its operators again is fatal."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, AttributeError, RuntimeError):  # the operators that are not there
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        return False
    return True


def environment() -> dict[str, str]:
    """Environment variables with which other Python processes can import it, too."""
    path = [os.fspath(SITE), os.fspath(FOLDER), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}
