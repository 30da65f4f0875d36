"""What a real TorchServe answers is what docs/openapi.json says, at every address."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from tests.e2e.test_protocols import BASE64, VIDEO, key
from tests.support.authorization import operator
from tests.support.openapi import operations, schema_of
from videopure.launcher.server import TorchServe
from videopure.wire.openapi import openapi

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))

TENSOR = {"name": "video", "datatype": "BYTES", "shape": [1], "data": [BASE64]}
ONE = {"json": {"video": BASE64, "options": {"top_k": 1}}}
FILE = {"data": VIDEO, "headers": {"Content-Type": "video/mp4"}}
TEXT = {"data": b"text", "headers": {"Content-Type": "video/mp4"}}
# Every operation: path, arguments of the request, and the status that it is to be answered with.
CALLS: list[tuple[str, str, dict[str, Any], int]] = [
    ("post", "/predictions/{model}", FILE, 200),
    ("post", "/predictions/{model}", {"files": {"video": VIDEO}, "data": {"top_k": 1}}, 200),
    ("post", "/predictions/{model}", {"json": {"video": BASE64, "options": {"topk": 1}}}, 400),
    ("post", "/predictions/{model}", TEXT, 415),
    ("post", "/predictions/{model}", {**FILE, "headers": {"Authorization": "Bearer no"}}, 400),
    ("post", "/predictions/{model}/{version}", ONE, 200),
    ("post", "/explanations/{model}", FILE, 200),
    ("post", "/v1/models/{model}:predict", {"json": {"instances": [{"video": BASE64}]}}, 200),
    ("post", "/v2/models/{model}/infer", {"json": {"inputs": [TENSOR]}}, 200),
    ("get", "/ping", {}, 200),
    ("get", "/v2", {}, 200),
    ("get", "/v2/health/live", {}, 200),
    ("get", "/v2/health/ready", {}, 200),
    ("get", "/models", {}, 200),
    ("get", "/models/{model}", {}, 200),
    ("get", "/models/{model}", {"params": {"customized": "true"}}, 200),
    ("put", "/models/{model}", {"params": {"min_worker": 1, "synchronous": "true"}}, 200),
    ("get", "/token", {"params": {"type": "management"}, "key": "API"}, 200),
    ("get", "/metrics", {}, 200),
]


def ask(server: TorchServe, method: str, path: str, sent: dict[str, Any]) -> requests.Response:
    client = server.client()
    port = DOCUMENT["paths"][path]["servers"][0]["url"][-1]
    base = {"0": client.inference_url, "1": client.management_url, "2": client.metrics_url}[port]
    purpose = sent.get("key", "management" if port == "1" else "inference")
    headers = {**key(server, purpose), **operator(server), **sent.get("headers", {})}
    url = base + path.format(model="videopure", version="1.0")
    kwargs = {name: value for name, value in sent.items() if name not in ("headers", "key")}
    return requests.request(method, url, headers=headers, timeout=120, **kwargs)


@pytest.mark.parametrize(("method", "path", "sent", "status"), CALLS)
def test_answers_are_those_of_the_document(
    server: TorchServe, method: str, path: str, sent: dict[str, Any], status: int
) -> None:
    answer = ask(server, method, path, sent)
    assert answer.status_code == status, answer.text[:500]
    response = DOCUMENT["paths"][path][method]["responses"][str(status)]
    if "content" not in response:
        assert answer.text.strip() == ""
        return
    told = answer.headers.get("Content-Type", "application/json").partition(";")[0]
    schema = schema_of(DOCUMENT, method, path, told, status)
    if told == "application/json":
        jsonschema.Draft202012Validator(schema).validate(answer.json())


def test_every_operation_is_asked() -> None:
    asked = {(method, path) for method, path, _, status in CALLS if status < 300}
    assert asked == {(method, path) for method, path, _ in operations(openapi())}
