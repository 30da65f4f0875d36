"""The other ways in and out of a real TorchServe: KServe, gRPC, evidence, metrics, description."""

import base64
import gzip
import importlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import grpc
import jsonschema
import numpy as np
import pytest
import requests
import tritonclient.http as triton
from grpc_tools import protoc

from tests.support.authorization import operator
from tests.support.load import wait_for
from videopure.demo import SAMPLES
from videopure.launcher.server import TorchServe

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
VIDEO = (SAMPLES / "grows-attacked.mp4").read_bytes()
BASE64 = base64.b64encode(VIDEO).decode()
TRUTH = "grows"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "docs" / "answer.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema)


def key(server: TorchServe, purpose: str = "inference") -> dict[str, str]:
    keys = json.loads((server.folder / "key_file.json").read_text())
    return {"Authorization": f"Bearer {keys[purpose]['key']}"}


def post(server: TorchServe, path: str, **kwargs: Any) -> requests.Response:
    headers = {**key(server), **kwargs.pop("headers", {})}
    url = server.client().inference_url + path
    return requests.post(url, headers=headers, timeout=120, **kwargs)


@pytest.mark.parametrize("path", ["/predictions/videopure", "/predictions/videopure/1.0"])
def test_every_address_of_the_model_answers(
    server: TorchServe, validator: jsonschema.Draft202012Validator, path: str
) -> None:
    answer = post(server, path, json={"video": BASE64, "options": {"top_k": 1}})
    assert answer.status_code == 200
    validator.validate(answer.json())
    assert [p["label"] for p in answer.json()["predictions"]] == [TRUTH]


def test_kserve_v1(server: TorchServe, validator: jsonschema.Draft202012Validator) -> None:
    path = "/v1/models/videopure:predict"
    answer = post(server, path, json={"instances": [{"video": BASE64}]})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    (prediction,) = answer.json()["predictions"]
    validator.validate(prediction)
    assert prediction["predictions"][0]["label"] == TRUTH
    bad = post(server, path, json={"instances": [{"video": "AAAA"}]})
    assert bad.status_code == 415
    validator.validate(bad.json())


def test_open_inference_protocol(
    server: TorchServe, validator: jsonschema.Draft202012Validator
) -> None:
    tensor = {"name": "video", "datatype": "BYTES", "shape": [1], "data": [BASE64]}
    path = "/v2/models/videopure/infer"
    answer = post(server, path, json={"id": "mine", "inputs": [tensor]})
    assert answer.status_code == 200
    assert answer.json()["id"] == "mine"
    text = json.loads(answer.json()["outputs"][0]["data"][0])
    validator.validate(text)
    assert text["predictions"][0]["label"] == TRUTH
    url = server.client().inference_url + "/v2/health/ready"
    assert requests.get(url, headers=key(server), timeout=60).json() == {"ready": True}


@pytest.mark.parametrize("shape", [[1], [1, 1]])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_tritonclient_as_it_comes(
    server: TorchServe,
    validator: jsonschema.Draft202012Validator,
    shape: list[int],
    binary: bool,
) -> None:
    """Its defaults: bytes behind the JSON, and as bytes it wants the answer."""
    url = server.client().inference_url.removeprefix("http://")
    with triton.InferenceServerClient(url, network_timeout=120) as client:
        assert client.is_server_ready(headers=key(server))
        video = triton.InferInput("video", shape, "BYTES")
        content = VIDEO if binary else BASE64.encode()
        elements = np.array([content], dtype=object).reshape(shape)
        video.set_data_from_numpy(elements, binary_data=binary)
        result = client.infer("videopure", [video], headers=key(server), request_id="mine")
        assert result.get_response()["id"] == "mine"
        assert "binary_data_size" in result.get_output("answer")["parameters"]
        answers = result.as_numpy("answer")
        assert list(answers.shape) == shape
        answer = json.loads(answers.ravel()[0])
        validator.validate(answer)
        assert answer["predictions"][0]["label"] == TRUTH
        packed = client.infer(
            "videopure",
            [video],
            outputs=[triton.InferRequestedOutput("answer", binary_data=False)],
            headers=key(server),
            parameters={"top_k": 1},
            request_compression_algorithm="gzip",
        )
        (text,) = packed.as_numpy("answer").ravel()
        assert len(json.loads(text)["predictions"]) == 1


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (json.dumps({"video": BASE64}).encode(), {}),
        (json.dumps({"video": BASE64}).encode(), {"Content-Type": "text/json"}),
        (b"\xef\xbb\xbf" + json.dumps({"video": BASE64}).encode(), {}),
        (gzip.compress(json.dumps({"video": BASE64}).encode()), {"Content-Encoding": "gzip"}),
        (gzip.compress(VIDEO), {"content-encoding": "gzip", "Content-Type": "video/mp4"}),
    ],
    ids=["no type", "text/json", "byte-order mark", "packed json", "packed video"],
)
def test_bodies_are_known_by_their_looks(
    server: TorchServe, body: bytes, headers: dict[str, str]
) -> None:
    answer = post(server, "/predictions/videopure", data=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["label"] == TRUTH


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v1/models/videopure", 404),
        ("/v2/models/videopure", 404),
        ("/v2/models/videopure/ready", 404),
    ],
)
def test_torchserve_answers_as_the_readme_says(server: TorchServe, path: str, status: int) -> None:
    url = server.client().inference_url + path
    assert requests.get(url, headers=key(server), timeout=60).status_code == status


def test_the_grpc_example(server: TorchServe, validator: jsonschema.Draft202012Validator) -> None:
    def run(*options: str) -> tuple[int, dict[str, Any]]:
        program = [sys.executable, str(ROOT / "docs" / "grpc" / "predict.py")]
        address = f"127.0.0.1:{server.overrides['grpc_inference_port']}"
        video = str(SAMPLES / "grows-attacked.mp4")
        asked = [*program, video, *options, "--address", address]
        done = subprocess.run(asked, cwd=server.folder, capture_output=True, timeout=120)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    code, answer = run("top_k=1")
    validator.validate(answer)
    assert (code, [p["label"] for p in answer["predictions"]]) == (0, [TRUTH])
    code, error = run("topk=1")
    assert (code, error["code"]) == (1, 400)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, ModuleType]]:
    """The message and service classes that grpcio-tools makes."""
    out = tmp_path_factory.mktemp("stubs")
    folder = ROOT / "docs" / "grpc"
    arguments = [f"-I{folder}", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main(["protoc", *arguments, str(folder / "inference.proto")]) == 0
    sys.path.insert(0, str(out))
    yield importlib.import_module("inference_pb2"), importlib.import_module("inference_pb2_grpc")
    sys.path.remove(str(out))


def test_grpc_answers_with_the_same_json(
    server: TorchServe,
    stubs: tuple[ModuleType, ModuleType],
    validator: jsonschema.Draft202012Validator,
) -> None:
    messages, services = stubs
    token = (("authorization", key(server)["Authorization"]),)
    with grpc.insecure_channel(f"127.0.0.1:{server.overrides['grpc_inference_port']}") as channel:
        ask = services.InferenceAPIsServiceStub(channel).Predictions

        def predict(metadata: tuple[tuple[str, str], ...] = token, **fields: bytes) -> Any:
            request = messages.PredictionsRequest(model_name="videopure", input=fields)
            return json.loads(ask(request, metadata=metadata, timeout=120).prediction)

        answer = predict(video=VIDEO, top_k=b"1")
        validator.validate(answer)
        assert [p["label"] for p in answer["predictions"]] == [TRUTH]
        # gRPC's own status says OK for errors, too: the code is in the body.
        error = predict(video=VIDEO, topk=b"1")
        validator.validate(error)
        assert (error["code"], error["type"]) == (400, "InvalidRequestError")
        with pytest.raises(grpc.RpcError) as refused:
            predict(metadata=(), video=VIDEO)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_the_evidence_is_a_video(server: TorchServe) -> None:
    headers = {"Content-Type": "video/mp4", **operator(server)}
    answer = post(server, "/explanations/videopure", data=VIDEO, headers=headers)
    assert (answer.status_code, answer.reason) == (200, "OK")
    assert answer.headers["Content-Type"] == "video/mp4"
    with av.open(io.BytesIO(answer.content)) as container:
        told = json.loads(container.metadata["comment"])
        assert sum(1 for _ in container.decode(video=0)) == 16
    assert told["predictions"][0]["label"] == TRUTH
    assert told["request_id"] == answer.headers["x-request-id"]
    bad = post(server, "/explanations/videopure", data=b"text", headers=headers)
    assert (bad.status_code, bad.json()["type"]) == (415, "NotAVideoError")


def test_the_description_tells_what_can_be_asked(server: TorchServe) -> None:
    url = f"{server.client().management_url}/models/videopure?customized=true"
    (model,) = requests.get(url, headers=key(server, "management"), timeout=60).json()
    told = model["customizedMetadata"]
    told = json.loads(told) if isinstance(told, str) else told
    assert TRUTH in told["recogniser"]["labels"]
    assert told["options"]["inversion_steps"]["maximum"] == 10
    assert told["limits"]["max_bytes"] == 64 * 1024 * 1024


def metrics(server: TorchServe) -> dict[str, float]:
    """Values by name and own dimension."""
    text = requests.get(f"{server.overrides['metrics_address']}/metrics", timeout=60).text
    found = {}
    for line in text.splitlines():
        match = re.match(r'(\w+)\{(?:(?:Outcome|Stage)="(\w+)",)?ModelName="\w+",.*\} (\S+)$', line)
        if match and "_bucket" not in match[1]:
            found[match[1] + (f":{match[2]}" if match[2] else "")] = float(match[3])
    return found


def test_metrics_count_what_was_asked(server: TorchServe) -> None:
    before = metrics(server)
    assert post(server, "/predictions/videopure", json={"video": BASE64}).status_code == 200
    assert post(server, "/predictions/videopure", data=b"text").status_code == 415

    def grown_by() -> dict[str, float]:
        after = metrics(server)
        return {name: after[name] - before.get(name, 0) for name in after}

    # TorchServe reads them from the worker's output, line by line, behind the answers.
    wait_for(lambda: grown_by().get("VideoPureBatchSize_sum", 0) >= 2, "metrics of both requests")
    grown = grown_by()
    assert grown["VideoPureRequests:OK"] == 1
    assert grown["VideoPureRequests:NotAVideoError"] == 1
    assert grown["VideoPureClips"] == 1
    assert 2 <= grown["VideoPureVotes"] <= 3
    assert grown["VideoPureSuspicion_count"] == 1
    assert grown["VideoPureSuspicion_sum"] > 0.5  # it is an attacked clip
    assert grown["VideoPureAgreement_sum"] > 0.5
    assert grown["VideoPureBatchSize_sum"] == 2
    assert grown["VideoPureMicroBatchSize_sum"] == 1
    for stage in ("decode", "flow", "encode", "invert", "denoise", "vote"):
        assert grown[f"VideoPureStageMilliseconds:{stage}"] > 0


def test_each_request_is_one_line_of_json_in_the_log(server: TorchServe) -> None:
    path = "/predictions/videopure"
    answer = post(server, path, json={"video": BASE64}, headers=operator(server)).json()

    def lines() -> list[str]:
        written = server.log_file.read_text(errors="replace").splitlines()
        return [s for s in written if '"event": "request"' in s and answer["request_id"] in s]

    wait_for(lines, "line of the request")  # TorchServe copies it from the worker's output
    mine = lines()
    assert len(mine) == 1
    entry = json.loads(mine[0][mine[0].index("{") :])
    assert (entry["status"], entry["clips"], entry["votes"]) == (
        200,
        1,
        [answer["votes"]["counted"]],
    )
