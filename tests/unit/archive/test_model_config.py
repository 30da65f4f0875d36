"""model-config.yaml as it is written: commented, complete, and read back as it was meant."""

import dataclasses
import importlib.resources
import re
from typing import Any, get_type_hints

import pytest
import yaml
from pydantic import BaseModel

from videopure.archive.model_config import render_model_config
from videopure.format.settings import ModelConfig, SettingsError, read_yaml

pytestmark = pytest.mark.unit

TEMPLATE = (
    importlib.resources.files("videopure.archive") / "templates" / "model-config.yaml"
).read_text()
# Their defaults are TorchServe's own or those of config.properties.
ELSEWHERE = {"jobQueueSize", "minWorkers", "maxWorkers", "deviceType", "deviceIds"}


def keys(section: Any, prefix: str = "") -> set[str]:
    """All keys of a section, a model or a dataclass, and of the sections in it."""
    if dataclasses.is_dataclass(section):
        types = get_type_hints(section)
    elif isinstance(section, type) and issubclass(section, BaseModel):
        types = {name: field.annotation for name, field in section.model_fields.items()}
    else:
        return set()
    return {prefix + name for name in types}.union(
        *(keys(kind, f"{prefix}{name}.") for name, kind in types.items())
    )


def written_keys(value: Any, prefix: str = "") -> set[str]:
    if not isinstance(value, dict):
        return set()
    return {prefix + k for k in value}.union(
        *(written_keys(v, f"{prefix}{k}.") for k, v in value.items())
    )


def test_the_template_shows_every_key_with_its_default_and_a_reason() -> None:
    uncommented = yaml.safe_load(re.sub(r"^( *)# ( *\w+:)", r"\1\2", TEMPLATE, flags=re.M))
    assert written_keys(uncommented) == keys(ModelConfig)
    shown = {key: value for key, value in uncommented.items() if key not in ELSEWHERE}
    assert ModelConfig.parse(shown) == ModelConfig()
    for line in TEMPLATE.splitlines():
        if re.match(r" *(# +)?\w+:", line) and not line.startswith(("videopure:", "# maxWorkers")):
            assert "# " in line.split(":", 1)[1], line


def test_nothing_chosen_is_the_template_itself() -> None:
    assert render_model_config({}) == TEMPLATE
    assert ModelConfig.parse(yaml.safe_load(TEMPLATE)) == ModelConfig()


def test_what_is_chosen_is_set_where_it_was_explained() -> None:
    config = {
        "batchSize": 8,
        "deviceIds": [1],
        "videopure": {
            "dtype": "bfloat16",
            "threads": None,
            "purification": {"guidance_reference": None, "suspicion_threshold": 0.25},
            "limits": {},
        },
    }
    text = render_model_config(config)
    assert yaml.safe_load(text) == {
        **{"batchSize": 8, "maxBatchDelay": 50, "responseTimeout": 120, "startupTimeout": 300},
        **{"deviceIds": [1], "videopure": {**config["videopure"], "limits": None}},
    }
    assert len(text.splitlines()) == len(TEMPLATE.splitlines())
    assert re.search(r"^  dtype: bfloat16 +# of computing", text, re.M)
    assert re.search(r"^    suspicion_threshold: 0.25 +# suspicion above", text, re.M)
    assert re.search(r"^  #   votes: early +# stop", text, re.M)


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(SettingsError, match=r"videopure\.limits\.max_byte: .*'max_bytes'"):
        render_model_config({"videopure": {"limits": {"max_byte": 1}}})


def test_yaml_with_a_key_twice_or_none_at_all_is_named() -> None:
    assert read_yaml("a: {b: 1}", "x.yaml") == {"a": {"b": 1}}
    assert read_yaml("# only a comment", "x.yaml") is None
    with pytest.raises(SettingsError, match=r"x\.yaml: key 'b' appears twice, again in line 3"):
        read_yaml("a:\n  b: 1\n  b: 2\n", "x.yaml")
    with pytest.raises(SettingsError, match=r"x\.yaml is not YAML: "):
        read_yaml("a: [", "x.yaml")
