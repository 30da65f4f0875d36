"""What is absent where the base install alone is: the client and its commands work without."""

from __future__ import annotations

__all__ = ["BLOCK", "HEAVY"]

# The packages of the extras, as they are imported.
HEAVY = (
    *("accelerate", "av", "cv2", "cryptography", "diffusers", "jinja2", "matplotlib", "numpy"),
    *("ray", "requests", "safetensors", "torch", "torchvision", "transformers", "ts", "yaml"),
)

# Lines at the head of a program: importing any of them fails as if it were not installed.
BLOCK = f"""
import importlib.abc, sys


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Absent())
"""
