"""Read by every Python that has this folder on its path: see `torchvision_operators`."""

import importlib.util
from pathlib import Path

_path = Path(__file__).parents[1] / "torchvision_operators.py"
_spec = importlib.util.spec_from_file_location("torchvision_operators", _path)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
_module.allow()
