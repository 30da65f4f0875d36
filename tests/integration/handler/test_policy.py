"""The operator decides: what clients may ask for, what they are told, and who is the operator."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
import torch
import yaml

from tests.support.policies import OPEN
from tests.support.videos import encode, frames
from tests.support.workers import start
from videopure.archive.configure import configure_archive
from videopure.format.settings import HandlerSettings, SettingsError
from videopure.handler.policy import OperatorKey
from videopure.handler.responses import Reply
from videopure.handler.service import VideoPureService
from videopure.handler.torchserve import load_service
from videopure.wire.operator import KEY_FILE_VARIABLE
from videopure.wire.schemas import Answer

pytestmark = pytest.mark.integration

VIDEO = bytearray(encode(frames(4, 16, 24), "matroska", "ffv1", "bgr0"))
KEY = "k" * 32
HEADER = "x-videopure-operator"
GUARDED = {
    "purify": b"false",
    "method": b"ddim",
    "inversion_steps": b"0",
    "votes": b"full",
    "seed": b"1",
}
SECTION = {
    "max_clips": 3,
    "max_inversion_steps": 4,
    "purification": {"inversion_steps": 1, "suspicion_threshold": 0.5},
}


@pytest.fixture(scope="module")
def unpacked(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unpacked")
    ZipFile(tiny_archive).extractall(root)
    return root


@pytest.fixture(scope="module")
def closed(unpacked: Path) -> VideoPureService:
    """As an archive comes, with a key of the operator's."""
    service = load_service(unpacked, HandlerSettings.parse(SECTION), torch.device("cpu"))
    return with_policy(service)


def with_policy(service: VideoPureService, **policy: Any) -> VideoPureService:
    """The same models in a server of another policy."""
    return VideoPureService(
        service.defended,
        HandlerSettings.parse({**SECTION, "policy": policy}),
        service.names,
        operator_key=OperatorKey(KEY),
    )


def ask(
    service: VideoPureService, *, explain: bool = False, key: str | None = None, **options: bytes
) -> Reply:
    headers = {} if key is None else {HEADER: key}
    row = {"video": VIDEO, **options}
    (reply,) = service.answer([row], ["id"], [explain], [headers]).replies
    return reply


@pytest.mark.parametrize("option", GUARDED)
def test_clients_set_nothing_that_weakens_the_defence(
    closed: VideoPureService, option: str
) -> None:
    refused = ask(closed, **{option: GUARDED[option]})
    assert (refused.status, refused.body["type"]) == (400, "InvalidRequestError")
    assert f"option '{option}' is the operator's" in refused.body["message"]
    assert ask(closed, key=KEY, **{option: GUARDED[option]}).status == 200
    allowed = with_policy(closed, clients_may=[option])
    assert ask(allowed, **{option: GUARDED[option]}).status == 200
    other = next(name for name in GUARDED if name != option)
    assert ask(allowed, **{other: GUARDED[other]}).status == 400


def test_options_of_kserve_and_of_json_are_bound_as_well(closed: VideoPureService) -> None:
    import base64

    video = base64.b64encode(VIDEO).decode()
    bodies: list[dict[str, Any]] = [
        {"video": video, "options": {"purify": False}},
        {"instances": [{"video": video, "options": {"purify": False}}]},
        {
            "inputs": [{"name": "video", "datatype": "BYTES", "shape": [1], "data": [video]}],
            "parameters": {"purify": False},
        },
    ]
    for body in bodies:
        (reply,) = closed.answer([{"body": body}], ["id"]).replies
        assert reply.status == 400
        assert "option 'purify' is the operator's" in reply.body["message"]


def test_what_clients_are_told(closed: VideoPureService) -> None:
    """By default rounded scores and the alarm; the keys are always the same."""
    full = Answer.model_validate(ask(closed, key=KEY).body)
    assert full.detail == "full"
    assert full.votes
    assert full.undefended
    assert full.suspicion
    assert full.suspicion.score is not None

    body = ask(closed).body
    assert set(body) == set(full.model_dump())
    told = Answer.model_validate(body)
    assert told.detail == "scores"
    assert told.votes is None
    assert told.undefended is None
    assert told.suspicion
    assert told.suspicion.score is None
    assert told.suspicion.adversarial == full.suspicion.adversarial
    assert [p.label for p in told.predictions] == [p.label for p in full.predictions]
    for rounded, exact in zip(told.predictions, full.predictions, strict=True):
        assert exact.score is not None
        assert rounded.score == round(exact.score, 2)
    assert all(clip.suspicion is None for clip in told.clips)
    assert set(told.timing_ms) == {"total"}

    label = Answer.model_validate(ask(with_policy(closed, answer="label")).body)
    assert [(p.label, p.score) for p in label.predictions] == [(full.predictions[0].label, None)]
    assert label.clips[0].score is None
    assert label.undefended is None

    exactly = Answer.model_validate(ask(with_policy(closed, decimals=4)).body)
    assert exactly.predictions[0].score == round(full.predictions[0].score or 0, 4)
    assert ask(with_policy(closed, answer="full")).body["votes"]


def test_the_evidence_is_the_operators(closed: VideoPureService) -> None:
    refused = ask(closed, explain=True)
    assert (refused.status, refused.body["type"]) == (403, "ForbiddenError")
    assert "policy.answer" in refused.body["message"]
    assert ask(closed, explain=True, key=KEY).media
    assert ask(with_policy(closed, answer="full"), explain=True).media


def test_a_wrong_key_is_refused_and_not_taken_for_none(closed: VideoPureService) -> None:
    for wrong in ("", "k" * 31, "K" * 32, "ключ" * 10):
        reply = ask(closed, key=wrong)
        assert (reply.status, reply.body["type"]) == (403, "ForbiddenError")
        assert KEY not in json.dumps(reply.body)
    keyless = VideoPureService(closed.defended, closed.settings, closed.names)
    assert "VIDEOPURE_OPERATOR_KEY_FILE" in ask(keyless, key=KEY).body["message"]
    assert ask(keyless, votes=b"full").status == 400


def test_the_key_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_FILE_VARIABLE, raising=False)
    assert not OperatorKey.from_environment().admits({})
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(path))
    assert OperatorKey.from_environment().admits({HEADER: KEY})
    path.write_text("short")
    with pytest.raises(ValueError, match="32 characters"):
        OperatorKey.from_environment()


@pytest.mark.parametrize(
    ("options", "work"),
    [
        ({}, 2),
        ({"clips": b"3"}, 6),
        ({"clips": b"2", "inversion_steps": b"4"}, 10),
        ({"inversion_steps": b"0", "method": b"ddpm"}, 20),
    ],
)
def test_work_is_bounded_for_everyone(
    closed: VideoPureService, options: Mapping[str, bytes], work: int
) -> None:
    service = with_policy(closed, max_work=5)
    reply = ask(service, key=KEY, **options)
    if work <= 5:
        assert reply.status == 200
    else:
        assert reply.status == 400
        assert f"take {work} denoising steps" in reply.body["message"]
        assert "policy.max_work" in reply.body["message"]
        assert ask(with_policy(closed, max_work=work), key=KEY, **options).status == 200


def test_the_videos_of_a_request_share_its_work(closed: VideoPureService) -> None:
    import base64

    instance = {"video": base64.b64encode(VIDEO).decode()}
    service = with_policy(closed, max_work=5)
    (reply,) = service.answer([{"body": {"instances": [instance] * 3}}], ["id"]).replies
    assert reply.status == 400
    assert "video 2: the request's clips take 6 denoising steps" in reply.body["message"]


def test_a_policy_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"policy\.max_work must allow a clip .* 6 .* got 5"):
        HandlerSettings.parse({"policy": {"max_work": 5}})
    with pytest.raises(SettingsError, match="clients_may"):
        HandlerSettings.parse({"policy": {"clients_may": ["clips"]}})


@pytest.mark.parametrize(
    "options",
    [{"method": b"ddim"}, {"inversion_steps": b"0"}, {"votes": b"full"}],
)
def test_answers_say_how_they_came_about_and_alarm_by_their_own_threshold_only(
    closed: VideoPureService, options: Mapping[str, bytes]
) -> None:
    own = ask(closed, key=KEY).body
    assert own["purification"] == {
        "method": "videopure",
        "inversion_steps": 1,
        "speed": "exact",
        "calibrated": True,
    }
    assert own["suspicion"]["adversarial"] in (True, False)
    body = ask(closed, key=KEY, **options).body
    for name, value in options.items():
        if name != "votes":
            assert str(body["purification"][name]) == value.decode()
    assert body["purification"]["calibrated"] is False
    assert body["suspicion"]["score"] is not None
    assert body["suspicion"]["adversarial"] is None
    assert ask(closed, key=KEY, purify=b"false").body["purification"] is None


def test_settings_that_the_operator_changed_have_no_threshold(
    tiny_archive: Path, tmp_path: Path
) -> None:
    ZipFile(tiny_archive).extractall(tmp_path)
    for changes, calibrated in (
        ({"videopure": {"policy": OPEN}}, True),
        ({"videopure": {"purification": {"inversion_steps": 1}}}, False),
        ({"videopure": {"purification": {"suspicion_threshold": 0.25}}}, True),
    ):
        configure_archive(tmp_path, changes)
        settings = yaml.safe_load((tmp_path / "model-config.yaml").read_text())["videopure"]
        service = load_service(tmp_path, HandlerSettings.parse(settings), torch.device("cpu"))
        body = ask(service).body
        assert body["purification"]["calibrated"] is calibrated
        assert (body["suspicion"]["adversarial"] is not None) is calibrated


class Context(SimpleNamespace):
    """TorchServe's context of a batch, whose headers are as clients sent them."""

    def __init__(self, *headers: Mapping[str, Any]) -> None:
        super().__init__(statuses={}, headers=headers)

    def get_request_header(self, index: int, name: str) -> Any:
        return self.headers[index].get(name)

    def get_all_request_header(self, index: int) -> Mapping[str, Any]:
        return dict(self.headers[index])

    def get_request_id(self, index: int) -> str:
        return f"id{index}"

    def set_response_status(self, code: int, phrase: str, index: int) -> None:
        self.statuses[index] = code

    def set_response_content_type(self, index: int, kind: str) -> None:
        pass

    def set_response_header(self, index: int, name: str, value: str) -> None:
        pass

    @property
    def metrics(self) -> Any:
        return SimpleNamespace(add_metric=lambda *args, **kwargs: None)


def test_a_prediction_that_says_describe_is_a_prediction(
    unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TorchServe's clients can send the header that its management address marks requests by."""
    monkeypatch.setattr("videopure.handler.torchserve.emit", lambda batch, metrics: None)
    handler = start(unpacked)
    marked = {"describe": "True"}
    video: dict[str, Any] = {"body": VIDEO}

    batch = Context(marked, {})
    replies = handler.handle([video, video], batch)
    assert [json.loads(reply)["request_id"] for reply in replies] == ["id0", "id1"]

    (alone,) = handler.handle([video], Context(marked))
    assert json.loads(alone)["predictions"]
    # An empty form has no fields, like what the management address sends.
    form = {**marked, "Content-Type": "multipart/form-data; boundary=x"}
    (empty,) = handler.handle([{}], Context(form))
    assert json.loads(empty)["type"] == "InvalidRequestError"
    # And one of TorchServe's own, as 0.12 sends it.
    (described,) = handler.handle([{}], Context({**marked, "Host": "127.0.0.1:8081"}))
    assert json.loads(described)["policy"]["clients_may"] == []
