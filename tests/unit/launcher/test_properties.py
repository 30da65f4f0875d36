"""Reading TorchServe's properties files."""

from pathlib import Path

import pytest

from videopure.launcher.properties import read_properties

pytestmark = pytest.mark.unit


def test_names_values_and_comments_are_told_apart_as_java_does() -> None:
    text = (
        "# grpc_inference_port=1\n! model_store=x\n  # indented=comment\n\n"
        "inference_address = http://127.0.0.1:8080\n"
        'models={"a": "b=c"}\n'
        "job_queue_size=1\njob_queue_size=2\nno value\n"
        "metrics_address: http://0.0.0.0\nmanagement\\\n  _address=open\n\\u0061b=\\t1\n"
    )
    assert read_properties(text) == {
        "inference_address": "http://127.0.0.1:8080",
        "models": '{"a": "b=c"}',
        "job_queue_size": "2",
        "no": "value",
        "metrics_address": "http://0.0.0.0",
        "management_address": "open",
        "ab": "1",
    }


def test_what_we_serve_with_is_read_whole() -> None:
    folder = Path(__file__).parents[3] / "launcher"
    properties = read_properties((folder / "config.properties").read_text(encoding="utf-8"))
    assert properties["metrics_config"] == "metrics.yaml"
    assert properties["inference_address"] == "http://127.0.0.1:8080"
    assert all(name.isidentifier() for name in properties)
