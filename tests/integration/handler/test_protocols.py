"""The bodies of KServe's protocols, the evidence video and the description, in process."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import av
import jsonschema
import numpy as np
import pytest
import torch

from tests.support.policies import OPEN
from tests.support.videos import encode, frames
from videopure.format.manifest import Manifest
from videopure.format.settings import HandlerSettings
from videopure.handler.description import describe
from videopure.handler.responses import Reply
from videopure.handler.service import VideoPureService
from videopure.handler.torchserve import load_service
from videopure.wire.evidence import GAIN
from videopure.wire.schemas import answer_schema

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
VIDEOS = [encode(frames(4, 16, 24, seed=s), "matroska", "ffv1", "bgr0") for s in range(2)]
BASE64 = [base64.b64encode(video).decode() for video in VIDEOS]


@pytest.fixture(scope="module")
def unpacked(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unpacked")
    ZipFile(tiny_archive).extractall(root)
    return root


@pytest.fixture(scope="module")
def service(unpacked: Path) -> VideoPureService:
    section = {
        "max_clips": 3,
        "purification": {"inversion_steps": 1, "suspicion_threshold": 0.5},
        "policy": OPEN,
    }
    return load_service(unpacked, HandlerSettings.parse(section), torch.device("cpu"))


def ask(service: VideoPureService, row: dict[str, Any], *, explain: bool = False) -> Reply:
    (reply,) = service.answer([row], ["id"], [explain]).replies
    return reply


def tensor(**changes: Any) -> dict[str, Any]:
    """A request of the open inference protocol."""
    video = {"name": "video", "datatype": "BYTES", "shape": [2], "data": BASE64}
    return {"id": "mine", "inputs": [{**video, **changes}], "parameters": {"top_k": 2}}


def same(got: Any, expected: Any) -> None:
    """Answers must be equal, but for their times and the rounding of larger batches."""
    if isinstance(expected, dict):
        assert set(got) == set(expected)
        for key in set(expected) - {"timing_ms"}:
            same(got[key], expected[key])
    elif isinstance(expected, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, abs=1e-4)
    else:
        assert got == expected


def test_v1_answers_every_instance_like_a_request_of_its_own(service: VideoPureService) -> None:
    instances = [{"video": BASE64[0]}, {"video": BASE64[1], "options": {"top_k": 1, "clips": 2}}]
    reply = ask(service, {"body": {"instances": instances}})
    assert reply.status == 200
    assert reply.clips == 3
    assert len(reply.judged) == 2
    for answer, instance in zip(reply.body["predictions"], instances, strict=True):
        same(answer, ask(service, {"body": instance}).body)


def test_v2_answers_json_texts_in_a_tensor(service: VideoPureService) -> None:
    reply = ask(service, {"body": tensor()})
    assert reply.status == 200
    assert reply.body["id"] == "mine"
    assert (reply.body["model_name"], reply.body["model_version"]) == ("videopure", "1.0")
    (output,) = reply.body["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("answer", "BYTES", [2])
    for text, video in zip(output["data"], BASE64, strict=True):
        same(
            json.loads(text),
            ask(service, {"body": {"video": video, "options": {"top_k": 2}}}).body,
        )


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"instances": []}, 400, "field 'instances' must list 1 to 3 videos, got 0 of them"),
        ({"instances": {}}, 400, r"field 'instances' must list 1 to 3 videos, got \{\}"),
        ({"instances": BASE64[:1] * 4}, 400, "1 to 3 videos, got 4 of them"),
        ({"instances": BASE64}, 400, r"instances\[0\] must be an object"),
        (
            {"instances": [{"video": BASE64[0]}, {"video": BASE64[1], "options": {"topk": 1}}]},
            400,
            "video 1: unknown option 'topk'",
        ),
        (
            {"instances": [{"video": BASE64[0], "options": {"clips": 2}}] * 2},
            400,
            "video 1: option 'clips' of all videos .* may be 3 together, got 2 where 1 are left",
        ),
        ({"instances": [{"video": "AAAA"}]}, 415, "video 0: the 3 bytes sent are not a video"),
        (tensor(name="clip"), 400, "'name' of the input tensor must be 'video', got 'clip'"),
        (tensor(datatype="UINT8"), 400, "'datatype' .* must be 'BYTES', got 'UINT8'"),
        (tensor(shape=[3]), 400, r"'shape' .* must be \[2\], as many as its data, got \[3\]"),
        (tensor(data=None), 400, "field 'data' must list 1 to 3 videos, got None"),
        ({**tensor(), "inputs": []}, 400, r"must hold one tensor, 'video', got \[\]"),
        ({**tensor(), "id": 7}, 400, "field 'id' must be a string, got 7"),
        ({**tensor(), "parameters": {"topk": 1}}, 400, "video 0: unknown option 'topk'"),
    ],
)
def test_faults_name_the_field_and_the_video(
    service: VideoPureService, body: dict[str, Any], status: int, message: str
) -> None:
    reply = ask(service, {"body": body})
    assert reply.status == status
    assert re.search(message, reply.body["message"])


def test_answers_and_errors_are_as_the_schema_says(service: VideoPureService) -> None:
    schema = json.loads((ROOT / "docs" / "answer.schema.json").read_text())
    assert schema == answer_schema(), "run: python -m videopure.wire.schemas"
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    rows: list[dict[str, Any]] = [
        {"body": VIDEOS[0]},
        {"video": VIDEOS[0], "purify": b"false"},
        {"video": VIDEOS[0], "clips": b"2"},
        {"body": b"text"},
        {"video": VIDEOS[0], "topk": b"1"},
    ]
    replies = [ask(service, row) for row in rows]
    assert [reply.status for reply in replies] == [200, 200, 200, 415, 400]
    for reply in replies:
        validator.validate(json.loads(reply.content()))
    for broken in ({**replies[0].body, "predictions": []}, {"code": 200}, {}):
        assert not validator.is_valid(broken)


def panels(media: bytes) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Frames [T, H, W, 3] of the three panels in 0..1, at the size of the clip, and the answer."""
    with av.open(io.BytesIO(media)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 8
        answer = json.loads(container.metadata["comment"])
        pixels = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)])
    scale, width = 12, 24 * 12  # 16 rows are enlarged to at least 192
    cut = [pixels[:, 32:, left : left + width] for left in (0, width + 8, 2 * width + 16)]
    return [c[:, scale // 2 :: scale, scale // 2 :: scale] / 255 for c in cut], answer


def test_the_evidence_shows_what_was_sent_what_became_of_it_and_the_difference(
    service: VideoPureService,
) -> None:
    reply = ask(service, {"video": VIDEOS[0], "votes": b"full"}, explain=True)
    assert (reply.status, reply.content_type) == (200, "video/mp4")
    assert isinstance(reply.content(), bytes)
    (sent, purified, difference), answer = panels(reply.media or b"")
    same(answer, ask(service, {"video": VIDEOS[0], "votes": b"full"}).body)
    pixels = frames(4, 16, 24) / 255
    np.testing.assert_allclose(sent, pixels, atol=0.06)
    clips = torch.from_numpy(pixels).permute(0, 3, 1, 2)[None].float()  # [1, T, 3, H, W]
    expected = service.defended.purify(clips)[0].permute(0, 2, 3, 1).numpy()  # [T, H, W, 3]
    assert abs(expected - pixels).mean() > 0.02  # random models do change the clip
    assert abs(purified - expected).mean() < 0.04
    amplified = np.clip(0.5 + GAIN * (pixels - expected), 0, 1)
    assert abs(difference - amplified).mean() < 0.08


def test_the_evidence_does_not_depend_on_when_the_votes_were_decided(
    service: VideoPureService,
) -> None:
    early, full = (
        panels(ask(service, {"video": VIDEOS[0], "votes": votes}, explain=True).media or b"")
        for votes in (b"early", b"full")
    )
    np.testing.assert_array_equal(early[0][1], full[0][1])
    assert len(early[1]["votes"]["by_step"]) <= len(full[1]["votes"]["by_step"]) == 3


def test_the_evidence_of_several_clips_holds_all_their_frames(service: VideoPureService) -> None:
    long = encode(frames(8, 16, 24), "matroska", "ffv1", "bgr0")
    reply = ask(service, {"video": long, "clips": b"2"}, explain=True)
    (sent, *_), answer = panels(reply.media or b"")
    assert len(sent) == 8
    assert len(answer["clips"]) == 2


def test_evidence_and_answers_share_a_batch(service: VideoPureService) -> None:
    rows = [{"body": VIDEOS[0]}, {"body": VIDEOS[0]}, {"body": b"text"}]
    replies = service.answer(rows, ["a", "b", "c"], [False, True, True]).replies
    kinds = ["application/json", "video/mp4", "application/json"]
    assert [reply.content_type for reply in replies] == kinds
    assert [r.status for r in replies] == [200, 200, 415]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"video": VIDEOS[0], "purify": b"false"}, "option 'purify' must be true"),
        ({"body": {"instances": [{"video": BASE64[0]}]}}, "the evidence is of one video"),
    ],
)
def test_what_has_no_evidence_is_refused(
    service: VideoPureService, row: dict[str, Any], message: str
) -> None:
    reply = ask(service, row, explain=True)
    assert reply.status == 400
    assert message in reply.body["message"]


def test_evidence_that_would_kill_the_worker_is_refused(unpacked: Path) -> None:
    settings = HandlerSettings.parse({"limits": {"max_evidence_bytes": 1000}, "policy": OPEN})
    small = load_service(unpacked, settings, torch.device("cpu"))
    reply = ask(small, {"body": VIDEOS[0]}, explain=True)
    assert reply.status == 413
    assert "more than the 1000 allowed" in reply.body["message"]


def test_description_tells_models_options_limits_and_versions(
    service: VideoPureService, unpacked: Path
) -> None:
    told = json.loads(json.dumps(describe(service, Manifest.read(unpacked))))
    assert told["recogniser"]["labels"] == ["wave", "jump", "run", "sit"]
    assert (told["recogniser"]["frames"], told["recogniser"]["width"]) == (4, 24)
    assert told["purifier"]["inversion_steps"] == 1
    steps = told["options"]["inversion_steps"]
    assert (steps["type"], steps["default"], steps["minimum"], steps["maximum"]) == (
        "integer",
        1,
        0,
        10,
    )
    assert told["options"]["clips"]["maximum"] == 3
    assert told["options"]["top_k"]["maximum"] == 4
    assert told["options"]["votes"]["enum"] == ["early", "full"]
    assert told["limits"]["max_seconds"] == 600
    assert told["versions"]["torch"] == torch.__version__
    assert (told["device"], told["dtype"]) == ("cpu", "float32")
    assert told["cuda_graphs"] is False
