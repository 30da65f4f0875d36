"""Batches through the service: order, identity, and errors that stay alone."""

import logging
import time
from itertools import combinations
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.policies import OPEN
from tests.support.videos import encode, frames
from videopure.format.settings import HandlerSettings
from videopure.handler.responses import Reply
from videopure.handler.service import VideoPureService
from videopure.handler.torchserve import load_service

pytestmark = pytest.mark.integration

_SHARPER = 100
TEXT = {"body": bytearray(b"hello")}
EMPTY = {"body": bytearray()}


PIXELS = frames(4, 16, 24)
NOISE = np.random.default_rng(0).integers(0, 255, PIXELS.shape, dtype=np.uint8)
VIDEOS = [
    bytearray(encode(pixels, "matroska", "ffv1", "bgr0"))
    for pixels in (PIXELS, NOISE, PIXELS[::-1].copy())
]


@pytest.fixture(scope="module")
def service(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> VideoPureService:
    root = tmp_path_factory.mktemp("unpacked")
    ZipFile(tiny_archive).extractall(root)
    section = {
        "max_clips_per_forward": 2,
        "purification": {"inversion_steps": 1, "suspicion_threshold": 0.5},
        "policy": OPEN,
    }
    loaded = load_service(root, HandlerSettings.parse(section), torch.device("cpu"))
    # Random weights tell videos apart in the third digit: too little to see answers exchanged.
    head = loaded.defended.recogniser.network.head
    centre = torch.tensor([0.18, 0.18, -0.03, 0.11])  # what they answer to all
    head.weight.mul_(_SHARPER)
    head.bias.sub_(centre).mul_(_SHARPER)
    return loaded


def answer(service: VideoPureService, *rows: dict[str, Any]) -> list[Reply]:
    return service.answer(rows, [f"id{index}" for index in range(len(rows))]).replies


def test_answer_has_the_documented_shape(service: VideoPureService) -> None:
    (reply,) = answer(service, {"body": VIDEOS[0]})
    assert (reply.status, reply.phrase) == (200, "OK")
    body = reply.body
    assert set(body) == {
        "request_id",
        "model",
        "detail",
        "purification",
        "predictions",
        "votes",
        "undefended",
        "suspicion",
        "similarity",
        "clips",
        "video",
        "warnings",
        "timing_ms",
    }
    assert body["request_id"] == "id0"
    assert body["model"] == {
        "name": "videopure",
        "version": "1.0",
        "recogniser": "tiny",
        "purifier": "model_seed0",
    }
    assert len(body["predictions"]) == 4
    assert sum(p["score"] for p in body["predictions"]) == pytest.approx(1, abs=1e-4)
    votes = body["votes"]
    assert votes["of"] == 3
    assert votes["counted"] == len(votes["by_step"]) >= 2
    assert [step["timestep"] for step in votes["by_step"]][:2] == [21, 1]
    counted = [step["label"] for step in votes["by_step"]]
    assert body["predictions"][0]["label"] == max(counted, key=counted.count)
    assert body["suspicion"]["adversarial"] == (body["suspicion"]["score"] > 0.5)
    assert body["video"]["frame_indices"] == [0, 1, 2, 3]
    assert set(body["timing_ms"]) == {
        "decode",
        "flow",
        "encode",
        "invert",
        "denoise",
        "vote",
        "total",
    }


def test_clips_of_a_video_are_equal_parts_of_it_and_their_scores_are_averaged(
    service: VideoPureService,
) -> None:
    pixels = frames(24, 16, 24)
    long, *parts = (
        {"video": bytearray(encode(part, "matroska", "ffv1", "bgr0")), "votes": b"full"}
        for part in (pixels, pixels[:8], pixels[8:16], pixels[16:])
    )
    long["clips"] = bytearray(b"3")
    (whole,) = answer(service, long)
    alone = [reply.body for reply in answer(service, *parts)]
    body = whole.body
    indices = [[1, 3, 5, 7], [9, 11, 13, 15], [17, 19, 21, 23]]
    assert [clip["frame_indices"] for clip in body["clips"]] == indices
    assert body["video"]["frame_indices"] == [i for part in indices for i in part]
    for clip, single in zip(body["clips"], alone, strict=True):
        assert clip["label"] == single["predictions"][0]["label"]
        assert clip["score"] == pytest.approx(single["predictions"][0]["score"], abs=0.02)
        assert clip["suspicion"] == pytest.approx(single["suspicion"]["score"], abs=0.02)
    for prediction in body["predictions"]:
        scores = [
            p["score"]
            for s in alone
            for p in s["predictions"]
            if p["label_id"] == prediction["label_id"]
        ]
        assert prediction["score"] == pytest.approx(sum(scores) / 3, abs=0.02)
    ranked = [p["score"] for p in body["predictions"]]
    assert ranked == sorted(ranked, reverse=True)
    assert body["suspicion"]["score"] == max(clip["suspicion"] for clip in body["clips"])
    votes = body["votes"]
    assert votes["of"] == votes["counted"] == 9
    assert [step["clip"] for step in votes["by_step"]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_clips_of_several_requests_share_micro_batches(service: VideoPureService) -> None:
    sizes: list[int] = []

    def count(network: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        sizes.append(len(inputs[0]))

    rows = [
        {"video": VIDEOS[0], "clips": b"3", "purify": b"false"},
        {"video": VIDEOS[1], "purify": b"false"},
        {"video": VIDEOS[2], "clips": b"1", "purify": b"false"},
    ]
    with service.defended.recogniser.network.register_forward_pre_hook(count):
        replies = answer(service, *rows)
    assert sizes == [2, 2, 1]  # max_clips_per_forward is 2
    assert [len(reply.body["clips"]) for reply in replies] == [3, 1, 1]
    assert "12 are used" in replies[0].body["warnings"][0]


@pytest.mark.parametrize(
    "option",
    [
        {"votes": b"full"},
        {"inversion_steps": b"0"},
        {"method": b"ddim"},
        {"purify": b"false"},
    ],
)
def test_only_clips_of_the_same_options_are_computed_together(
    service: VideoPureService, option: dict[str, bytes]
) -> None:
    row = {"video": VIDEOS[0]}
    for rows, sizes in (([row, row], [2]), ([row, {**row, **option}], [1, 1])):
        batch = service.answer(rows, ["a", "b"])
        assert [micro_batch.size for micro_batch in batch.micro_batches] == sizes


def test_each_clip_draws_noise_of_its_own(service: VideoPureService) -> None:
    still = bytearray(encode(frames(1, 16, 24).repeat(8, 0), "matroska", "ffv1", "bgr0"))
    row = {"video": still, "clips": b"2", "method": b"ddpm", "seed": b"5"}
    first, again = answer(service, row, row)
    scores = [clip["score"] for clip in first.body["clips"]]
    assert scores[0] != scores[1]
    assert scores == pytest.approx([clip["score"] for clip in again.body["clips"]], abs=1e-4)


def test_unpurified_answer_has_the_same_keys(service: VideoPureService) -> None:
    plain, bare = answer(
        service, {"body": VIDEOS[0]}, {"video": VIDEOS[0], "purify": bytearray(b"false")}
    )
    assert set(bare.body) == set(plain.body)
    assert bare.body["votes"] is None
    assert bare.body["suspicion"] is None
    assert bare.body["predictions"][0] == bare.body["undefended"]
    assert bare.body["undefended"]["label"] == plain.body["undefended"]["label"]


def test_errors_have_torchserves_shape(service: VideoPureService) -> None:
    (reply,) = answer(service, TEXT)
    assert reply.status == 415
    assert set(reply.body) == {"code", "type", "message", "request_id"}
    assert reply.body["code"] == 415
    assert reply.body["request_id"] == "id0"


def late(service: VideoPureService, seconds: float) -> VideoPureService:
    """The same service in a worker of another responseTimeout."""
    return VideoPureService(service.defended, service.settings, service.names, seconds)


def test_a_batch_ends_before_torchserve_kills_its_worker(service: VideoPureService) -> None:
    """What there is no time for is told so; what was answered until then keeps its answer."""
    rows = [{"video": VIDEOS[0], "votes": b"full"}, {"video": VIDEOS[1], "purify": b"false"}]

    def slow(network: torch.nn.Module, inputs: object) -> None:
        time.sleep(0.3)  # each of the three votes

    with service.defended.recogniser.network.register_forward_pre_hook(slow):
        first, second = answer(late(service, 1.5), *rows)
    assert first.status == 200
    assert (second.status, second.body["type"]) == (503, "OutOfTimeError")
    assert "responseTimeout" in second.body["message"]
    first, second = answer(late(service, 1e-9), *rows)
    assert (first.status, second.status) == (503, 503)
    assert "decoding the other videos" in first.body["message"]
    assert [reply.status for reply in answer(late(service, 120), *rows)] == [200, 200]


def test_not_even_the_first_micro_batch_is_begun_where_it_would_not_end_in_time(
    service: VideoPureService,
) -> None:
    """Else `clips=4, inversion_steps=10` runs for minutes under a timeout of a second."""
    slow = late(service, 20)
    slow.pace.learn(seconds=10, work=1)
    (refused,) = answer(slow, {"video": VIDEOS[0], "clips": b"2", "inversion_steps": b"3"})
    assert (refused.status, refused.body["type"]) == (503, "OutOfTimeError")
    # What the archive does by itself is tried all the same, alone, and tells the pace anew.
    replies = answer(slow, {"video": VIDEOS[0]}, {"video": VIDEOS[1]})
    assert [reply.status for reply in replies] == [200, 200]
    (tried,) = answer(slow, {"video": VIDEOS[0], "clips": b"2", "inversion_steps": b"3"})
    assert tried.status == 200


def test_warming_up_tells_the_pace(service: VideoPureService) -> None:
    def slow(network: torch.nn.Module, inputs: object) -> None:
        time.sleep(0.2)

    warm = late(service, 0.5)
    with service.defended.recogniser.network.register_forward_pre_hook(slow):
        warm.warm_up()
    (refused,) = answer(warm, {"video": VIDEOS[0], "clips": b"2", "inversion_steps": b"3"})
    assert refused.status == 503


# Rows by the status that they must get.
GOOD = [
    {"video": data, **options}
    for data in VIDEOS
    for options in (
        {},
        {"clips": b"3"},
        {"votes": b"full", "top_k": b"1"},
        {"inversion_steps": b"0"},
        {"method": b"ddpm", "seed": b"7"},
        {"purify": b"false"},
    )
]
BAD = [
    (TEXT, 415),
    (EMPTY, 422),
    ({"video": VIDEOS[0], "nope": bytearray(b"1")}, 400),
    ({"body": VIDEOS[0][:200]}, 422),
]
CASES = [*((row, 200) for row in GOOD), *BAD]


@pytest.fixture(scope="module")
def alone(service: VideoPureService) -> list[dict[str, Any]]:
    """The answer to each case in a batch of its own."""
    return [answer(service, row)[0].body for row, _ in CASES]


def test_the_videos_of_these_tests_have_answers_of_their_own(alone: list[dict[str, Any]]) -> None:
    scores = [alone[GOOD.index({"video": data, "purify": b"false"})] for data in VIDEOS]
    seen = [{p["label"]: p["score"] for p in body["predictions"]} for body in scores]
    for one, other in combinations(seen, 2):
        assert max(abs(one[label] - other[label]) for label in one) > 0.2


good = st.integers(0, len(GOOD) - 1)
bad = st.integers(len(GOOD), len(CASES) - 1)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.one_of(good, good, bad), min_size=1, max_size=6))
def test_any_mix_is_answered_in_order_each_for_itself(
    service: VideoPureService, alone: list[dict[str, Any]], batch: list[int]
) -> None:
    replies = answer(service, *(CASES[number][0] for number in batch))
    assert [reply.status for reply in replies] == [CASES[number][1] for number in batch]
    for index, (reply, number) in enumerate(zip(replies, batch, strict=True)):
        assert reply.body["request_id"] == f"id{index}"
        expected = alone[number]
        if reply.status == 200:
            assert len(reply.body["clips"]) == len(expected["clips"])
            for ours, theirs in (
                (reply.body["predictions"][0], expected["predictions"][0]),
                (reply.body["undefended"], expected["undefended"]),
            ):
                assert ours["label"] == theirs["label"]
                assert ours["score"] == pytest.approx(theirs["score"], abs=0.02)
        else:
            assert reply.body["message"] == expected["message"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("broken"), 500),
        (torch.cuda.OutOfMemoryError("out of memory"), 507),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 507),
    ],
)
def test_a_clip_that_fails_in_the_model_fails_alone(
    service: VideoPureService,
    error: Exception,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail_on_bright_clips(network: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if inputs[0].mean((1, 2, 3, 4)).max() > 0.8:
            raise error

    bright = {"body": bytearray(encode(frames(4, 16, 24) // 8 + 220, "matroska", "ffv1", "bgr0"))}
    fault = service.defended.recogniser.network.register_forward_pre_hook(fail_on_bright_clips)
    with fault, caplog.at_level(logging.WARNING):
        parts = {"video": VIDEOS[0], "clips": b"2"}
        served = service.answer([parts, bright, {"body": VIDEOS[1]}], ["a", "b", "c"])
    assert [reply.status for reply in served.replies] == [200, status, 200]
    assert "broken" not in served.replies[1].body["message"]
    assert "halving" in caplog.text
    # Four clips in micro-batches of two, of which the bright one's had to be halved.
    assert served.memory_splits == (1 if status == 507 else 0)
    assert sum(micro_batch.size for micro_batch in served.micro_batches) == 3


def test_probabilities_that_are_not_finite_spoil_no_batch_mate(service: VideoPureService) -> None:
    """NaN in one answer would make the whole batch's JSON fail, or be no JSON."""

    def spoil_bright_clips(
        network: torch.nn.Module, inputs: tuple[torch.Tensor], logits: torch.Tensor
    ) -> torch.Tensor:
        return logits.masked_fill((inputs[0].mean((1, 2, 3, 4)) > 0.8)[:, None], torch.nan)

    bright = {"body": bytearray(encode(frames(4, 16, 24) // 8 + 220, "matroska", "ffv1", "bgr0"))}
    with service.defended.recogniser.network.register_forward_hook(spoil_bright_clips):
        replies = answer(service, {"body": VIDEOS[0]}, bright, {"body": VIDEOS[1]})
    assert [reply.status for reply in replies] == [200, 500, 200]
    assert "not finite" in str(replies[1].content())


def test_auto_takes_as_many_clips_together_as_fit_the_memory(
    tiny_archive: Path, tmp_path: Path
) -> None:
    ZipFile(tiny_archive).extractall(tmp_path)
    settings = HandlerSettings.parse({"max_clips_per_forward": "auto"})
    service = load_service(tmp_path, settings, torch.device("cpu"))
    assert service.max_clips == 1
    service.warm_up()
    assert 1 < service.max_clips <= 32  # tiny clips; where memory cannot be told, 4
    rows = [{"body": VIDEOS[0]}, {"body": VIDEOS[1]}]
    batch = service.answer(rows, ["a", "b"])
    assert [reply.status for reply in batch.replies] == [200, 200]
    assert [micro_batch.size for micro_batch in batch.micro_batches] == [2]
