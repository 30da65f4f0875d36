"""Sampling that nobody can dodge: clips by the length of the video, and frames that are drawn."""

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch

from tests.support.videos import encode, frames
from videopure.format.settings import HandlerSettings
from videopure.handler.policy import OperatorKey
from videopure.handler.service import VideoPureService
from videopure.handler.torchserve import load_service

pytestmark = pytest.mark.integration

KEY = "k" * 32
SHORT = encode(frames(8, 16, 24), "matroska", "ffv1", "bgr0")  # one second
LONG = encode(frames(40, 16, 24), "matroska", "ffv1", "bgr0")  # five seconds


@pytest.fixture(scope="module")
def loaded(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> VideoPureService:
    root = tmp_path_factory.mktemp("unpacked")
    ZipFile(tiny_archive).extractall(root)
    return load_service(root, HandlerSettings(), torch.device("cpu"))


def serving(loaded: VideoPureService, **section: Any) -> VideoPureService:
    section["purification"] = {"inversion_steps": 0}
    settings = HandlerSettings.parse(section)
    return VideoPureService(loaded.defended, settings, loaded.names, operator_key=OperatorKey(KEY))


def ask(
    service: VideoPureService, video: bytes, *, operator: bool = False, **options: bytes
) -> dict[str, Any]:
    headers = {"x-videopure-operator": KEY} if operator else {}
    (reply,) = service.answer([{"video": video, **options}], ["id"], headers=[headers]).replies
    return {**reply.body, "status": reply.status}


def body(
    loaded: VideoPureService, video: bytes, *, operator: bool = False, **section: Any
) -> dict[str, Any]:
    options = section.pop("options", {})
    return ask(serving(loaded, **section), video, operator=operator, **options)


def test_clips_auto_covers_a_video_by_the_stride(loaded: VideoPureService) -> None:
    options = {"clips": b"auto"}
    for video, stride, clips in ((SHORT, 2.0, 1), (LONG, 2.0, 3), (LONG, 1.0, 5), (LONG, 5.0, 1)):
        told = body(loaded, video, clip_stride=stride, options=options)
        assert (told["status"], len(told["clips"])) == (200, clips)
        assert told["warnings"] == []
    indices = body(loaded, LONG, clip_stride=1.0, options=options)["video"]["frame_indices"]
    assert indices == list(range(1, 40, 2))


@pytest.mark.parametrize("bound", [{"max_clips": 2}, {"policy": {"max_work": 2}}])
def test_a_video_that_is_too_long_for_the_stride_is_told(
    loaded: VideoPureService, bound: dict[str, Any]
) -> None:
    told = body(loaded, LONG, clip_stride=1.0, options={"clips": b"auto"}, **bound)
    assert len(told["clips"]) == 2
    assert told["warnings"] == [
        "the video lasts 5 s and 2 clips are used: each covers 2.5 s instead of 1"
    ]


def test_clients_do_not_look_at_less_than_the_operator_wants(loaded: VideoPureService) -> None:
    section: dict[str, Any] = {"default_clips": "auto", "clip_stride": 1.0}
    assert len(body(loaded, LONG, **section)["clips"]) == 5
    refused = body(loaded, LONG, **section, options={"clips": b"1"})
    assert refused["status"] == 400
    assert "option 'clips' is the operator's" in refused["message"]
    allowed = body(loaded, LONG, **section, options={"clips": b"1"}, operator=True)
    assert len(allowed["clips"]) == 1


def test_the_phase_is_drawn_for_each_request_and_told(loaded: VideoPureService) -> None:
    """Content that is hidden between the centres of equal parts is looked at sooner or later."""
    assert body(loaded, LONG)["video"]["sampling_phase"] is None
    seen, phases = set(), set()
    service = serving(loaded, random_phase=True)  # one decoder for all requests
    for _ in range(14):
        video = ask(service, LONG)["video"]
        phases.add(video["sampling_phase"])
        seen.update(video["frame_indices"])
        first = int(video["sampling_phase"] * 10)
        assert video["frame_indices"] == [first, first + 10, first + 20, first + 30]
    assert len(phases) > 5
    assert len(seen) > 12  # of 40; without a phase there are 4
