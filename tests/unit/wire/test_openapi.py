"""The OpenAPI document: valid, current, and of the same options and bodies as the code."""

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.openapi import schema_of
from videopure.purifier import Method, VotesMode
from videopure.wire import options
from videopure.wire.openapi import openapi

ROOT = Path(__file__).parents[3]
DOCUMENT = openapi()

pytestmark = pytest.mark.unit


def test_the_committed_document_is_current() -> None:
    stored = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert stored == DOCUMENT, "run: python -m videopure.wire.openapi > docs/openapi.json"


def test_the_document_is_openapi_3_1() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    broken = {**DOCUMENT, "info": {"title": "no version"}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_names_of_methods_and_votes_are_the_purifiers() -> None:
    assert get_args(options.Method) == get_args(Method)
    assert get_args(options.VotesMode) == get_args(VotesMode)


def test_options_have_the_same_names_and_types_for_clients_and_server() -> None:
    checked = options.Options.model_fields
    typed = get_type_hints(options.RequestOptions)
    assert typed.keys() == checked.keys()
    for name, choice in {"votes": "early", "method": "ddim", "clips": "auto"}.items():
        assert choice in str(typed[name])
        assert options.Options.model_validate({name: choice})
    fields = schema_of(DOCUMENT, "post", "/predictions/{model}", "multipart/form-data")
    assert fields["properties"].keys() == {"video", *checked}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"video": "AAAA", "options": {"top_k": 1}}, None),
        ({"video": "AAAA", "options": {"topk": 1}}, "'topk' was unexpected"),
        ({"video": "AAAA", "options": {"method": "magic"}}, "magic"),
        ({"options": {}}, "'video' is a required property"),
    ],
)
def test_requests_in_json_are_checked(body: dict[str, Any], fault: str | None) -> None:
    schema = schema_of(DOCUMENT, "post", "/predictions/{model}", "application/json")
    if fault is None:
        jsonschema.Draft202012Validator(schema).validate(body)
    else:
        with pytest.raises(jsonschema.ValidationError, match=fault):
            jsonschema.Draft202012Validator(schema).validate(body)
