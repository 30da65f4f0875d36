"""The demo's models, which come with the package."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

__all__ = ["demo_bundle", "demo_settings"]

# Served with the threshold that lets this share of clean clips raise a false alarm.
FALSE_ALARMS = "0.01"


def demo_bundle() -> Path:
    """The folder with `recogniser/`, `pipeline/` and `bundle.json`."""
    return Path(str(importlib.resources.files("videopure.demo"))) / "bundle"


def demo_settings() -> dict[str, Any]:
    """The `videopure` section of model-config.yaml at which the demo's models were measured."""
    bundle = json.loads((demo_bundle() / "bundle.json").read_text(encoding="utf-8"))
    return {
        "purification": {
            "inversion_steps": bundle["inversion_steps"],
            "guidance_reference": bundle["guidance_reference"],
            "suspicion_threshold": bundle["suspicion_thresholds"][FALSE_ALARMS],
        }
    }
