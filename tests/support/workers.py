"""What TorchServe does when it starts a worker, without TorchServe."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from videopure.handler.torchserve import TorchServeHandler

__all__ = ["start"]


def start(root: Path, config: Any = None) -> TorchServeHandler:
    """Initialise the handler of an unpacked archive.

    Args:
        root: its folder.
        config: content of model-config.yaml as TorchServe read it; by default the folder's own.
    """
    if config is None:
        config = yaml.safe_load((root / "model-config.yaml").read_text())
    context = SimpleNamespace(
        model_yaml_config=config, system_properties={"model_dir": str(root), "gpu_id": None}
    )
    handler = TorchServeHandler()
    handler.initialize(context)
    return handler
