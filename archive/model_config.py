"""Writes model-config.yaml from its commented template."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from videopure.format.settings import ModelConfig, SettingsError

__all__ = ["render_model_config"]

# A key of the template, shown (`# key: default   # why`) or set (`key: value   # why`).
_LINE = re.compile(
    r"^(?P<margin> *)(?P<shown># )?(?P<indent> *)(?P<key>\w+):"
    r"(?P<value>(?: (?! *#)[^#]*?)?)(?P<why>(?: +#.*)?)$"
)


def render_model_config(config: Mapping[str, Any]) -> str:
    """The commented file in which the keys of `config` are set and all others show defaults.

    Raises:
        SettingsError: if a key or a value is not known.
    """
    ModelConfig.parse(config)
    template = importlib.resources.files("videopure.archive") / "templates" / "model-config.yaml"
    text = "\n".join(_set_lines(template.read_text(encoding="utf-8"), config)) + "\n"
    written = ModelConfig.parse(yaml.safe_load(text))
    if written != ModelConfig.parse(config):
        raise SettingsError("model-config.yaml: its template lacks a key that was set")
    return text


def _set_lines(template: str, config: Mapping[str, Any]) -> Iterator[str]:
    path: list[str] = []
    for line in template.splitlines():
        found = _LINE.match(line)
        if found is None:
            yield line
            continue
        depth = (len(found["margin"]) + len(found["indent"])) // 2
        path = [*path[:depth], found["key"]]
        chosen, value = _look_up(config, path)
        if not chosen:
            yield line
        elif isinstance(value, Mapping) or (value is None and not found["value"]):
            yield f"{found['margin']}{found['indent']}{found['key']}:{found['why']}"
        else:
            flow = yaml.safe_dump(value, default_flow_style=True, width=10**6)
            shown = flow.removesuffix("\n").removesuffix("\n...")
            yield f"{found['margin']}{found['indent']}{found['key']}: {shown}{found['why']}"


def _look_up(config: Mapping[str, Any], path: list[str]) -> tuple[bool, Any]:
    value: Any = config
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False, None
        value = value[key]
    return True, value
