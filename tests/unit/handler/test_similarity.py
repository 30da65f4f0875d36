"""The memory of clients' recent clips: what it counts, and that it stays bounded."""

import json
import logging

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.defences import DEFENDED
from tests.support.videos import encode, frames
from videopure.evaluation.attacks.square import search
from videopure.format.settings import HandlerSettings, SettingsError, Similarity
from videopure.handler.metrics import samples_of
from videopure.handler.policy import OperatorKey
from videopure.handler.service import ServedBatch, VideoPureService
from videopure.handler.similarity import SimilarityMemory, client_of, describe_clip
from videopure.motions.clips import Stream
from videopure.motions.dataset import load_split
from videopure.wire.operator import OPERATOR_HEADER
from videopure.wire.schemas import ModelNames

pytestmark = pytest.mark.unit

KEY = "k" * 32
NAMES = ModelNames(name="tiny", version="1", recogniser="tiny", purifier="tiny")
VIDEO = encode(frames(3, 16, 24), "matroska", "ffv1", "bgr0")


def noise(seed: int, size: int = 16) -> Tensor:
    coarse = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (size, size))


def near(memory: SimilarityMemory, client: str, clip: Tensor) -> int:
    """Near-duplicates of a clip, which is remembered."""
    (sighting,) = memory.observe(client, [clip])
    return sighting.near


def test_clips_of_one_video_are_not_held_against_each_other() -> None:
    memory = SimilarityMemory(Similarity(clips=20))
    still = [noise(0)] * 3
    assert [s.near for s in memory.observe("a", still)] == [0, 0, 0]
    assert [s.near for s in memory.observe("a", still)] == [3, 3, 3]


def test_the_description_is_the_means_of_cells_in_grey() -> None:
    clip = torch.zeros(8, 3, 16, 16)
    clip[:, 0, :2, :2] = 1.0  # red, in the first cell of 2x2 pixels
    clip[1, :, 14:, 14:] = 0.6  # only in one of the frames that are looked at: 1, 3, 5, 7
    expected = np.zeros((4, 8, 8))
    expected[:, 0, 0] = 255 / 3
    expected[0, 7, 7] = 0.6 * 255
    assert np.array_equal(describe_clip(clip), expected.round().flatten())


@pytest.mark.parametrize("epsilon", [4, 8])
def test_every_query_of_square_is_a_near_duplicate(epsilon: int) -> None:
    """Whatever it repaints, it stays within the budget."""
    memory = SimilarityMemory(Similarity(clips=30))
    found: list[int] = []

    def leads(shown: Tensor, rows: Tensor) -> Tensor:
        found.extend(near(memory, "mallory", clip) for clip in shown)
        return torch.ones(len(shown))

    clips = noise(0)[None]
    search(leads, clips, epsilon=epsilon / 255, queries=40, generator=torch.Generator())
    assert found == [*range(30), *[30] * 10]


def test_the_farthest_clips_of_a_budget_are_near_duplicates_and_no_others() -> None:
    clip = 0.2 + 0.5 * noise(0)
    for change, expected in ((16, 1), (19, 0)):
        memory = SimilarityMemory(Similarity(clips=10, alarm_at=5))
        near(memory, "a", clip)
        local = clip.clone()
        local[:, :, :2, :2] += change / 255
        assert near(memory, "a", local) == expected


def test_clips_of_the_demo_are_not_near_duplicates_of_each_other() -> None:
    clips, _ = load_split(Stream("validation"), 0, 40)
    memory = SimilarityMemory(Similarity(clips=40))
    assert sum(near(memory, "a", clip) for clip in clips) == 0


def test_a_client_pushes_out_none_but_his_own_clips() -> None:
    memory = SimilarityMemory(Similarity(clips=20, alarm_at=5))
    near(memory, "alice", noise(0))
    for seed in range(1, 100):
        near(memory, "mallory", noise(seed))
    assert near(memory, "alice", noise(0)) == 1
    assert near(memory, "mallory", noise(1)) == 0  # pushed out by his own
    assert near(memory, "mallory", noise(0)) == 0  # another's


def test_memory_is_bounded_in_clients_and_time() -> None:
    now = [0.0]
    memory = SimilarityMemory(Similarity(clips=20, clients=3, seconds=60), clock=lambda: now[0])
    for client in "abc":
        near(memory, client, noise(0))
    near(memory, "a", noise(1))  # heard of again, so that b is the oldest
    near(memory, "d", noise(0))
    assert near(memory, "a", noise(0)) == 1
    now[0] = 59.0
    assert near(memory, "d", noise(0)) == 1
    now[0] = 61.0
    assert near(memory, "d", noise(0)) == 1  # the one of 59
    assert near(memory, "b", noise(0)) == 0


def test_clients_are_told_apart_by_the_header_that_the_operator_names() -> None:
    assert client_of({"x-client": "a"}, None) == client_of({"x-client": "b"}, None)
    assert client_of({"x-client": "a"}, "X-Client") != client_of({"x-client": "b"}, "X-Client")
    assert "secret" not in client_of({"x-client": "secret"}, "X-Client")


@pytest.mark.parametrize("name", ["alarm_at", "refuse_at"])
def test_what_can_never_be_reached_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"similarity.{name} must be at most .* got 21"):
        HandlerSettings.parse({"similarity": {"clips": 20, name: 21}})


def service(**similarity: object) -> VideoPureService:
    settings = HandlerSettings.parse({"similarity": similarity})
    return VideoPureService(DEFENDED, settings, NAMES, operator_key=OperatorKey(KEY))


def ask(server: VideoPureService, client: str = "", key: str | None = None) -> ServedBatch:
    headers = {"x-client": client}
    if key is not None:
        headers[OPERATOR_HEADER.lower()] = key
    return server.answer([{"video": VIDEO}], ["id"], None, [headers])


def counted(batch: ServedBatch, name: str) -> float:
    return sum(sample.value for sample in samples_of(batch) if sample.name == name)


def test_near_duplicates_are_counted_alarmed_and_refused(caplog: pytest.LogCaptureFixture) -> None:
    server = service(clips=10, alarm_at=2, refuse_at=3, client_header="X-Client")
    with caplog.at_level(logging.WARNING):
        batches = [ask(server, "mallory") for _ in range(5)]
    assert [batch.replies[0].status for batch in batches] == [200, 200, 200, 429, 429]
    assert batches[3].replies[0].body["type"] == "TooSimilarError"
    assert "similarity.refuse_at" in batches[3].replies[0].body["message"]
    assert [counted(b, "VideoPureNearDuplicates") for b in batches] == [0, 1, 1, 1, 1]
    assert [counted(b, "VideoPureSimilarityAlarms") for b in batches] == [0, 0, 1, 1, 1]
    events = [json.loads(r.message) for r in caplog.records if "near_duplicates" in r.message]
    assert [(e["event"], e["near_duplicates"]) for e in events] == [("near_duplicates", 2)]
    # Clients are not told; another client, and the operator, are answered.
    assert batches[2].replies[0].body["similarity"] is None
    assert ask(server, "alice").replies[0].status == 200
    told = ask(server, "mallory", KEY).replies[0]
    assert told.status == 200
    assert told.body["similarity"] == {"near_duplicates": 5, "alarm": True}


def test_nothing_is_remembered_unless_the_operator_wants_it() -> None:
    server = service()
    batches = [ask(server, key=KEY) for _ in range(2)]
    assert server.intake.memory is None
    assert batches[1].replies[0].body["similarity"] is None
    assert batches[1].sightings == ()
