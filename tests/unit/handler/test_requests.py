"""Rows of a TorchServe batch, as it really makes them, to requests."""

import base64

import pytest

from videopure.format.settings import HandlerSettings
from videopure.handler.errors import InvalidRequestError
from videopure.handler.requests import Options, parse_options, parse_row

pytestmark = pytest.mark.unit

SETTINGS = HandlerSettings(max_inversion_steps=10, max_clips=4)


def nested(depth: int) -> list[object]:
    """A list in a list in a list..."""
    outer: list[object] = []
    for _ in range(depth):
        outer = [outer]
    return outer


def test_raw_body_has_the_defaults() -> None:
    request = parse_row({"body": bytearray(b"video")}, SETTINGS)
    assert request.video == b"video"
    assert request.options == Options()


def test_empty_body_is_left_to_the_decoder() -> None:
    assert parse_row({"body": bytearray()}, SETTINGS).video == b""


def test_multipart_fields_are_options() -> None:
    row = {
        "video": bytearray(b"v"),
        "top_k": bytearray(b"2"),
        "purify": bytearray(b"false"),
        "votes": bytearray(b"full"),
        "method": bytearray(b"ddpm"),
        "seed": bytearray(b"7"),
        "inversion_steps": bytearray(b"3"),
        "clips": bytearray(b"4"),
    }
    options = parse_row(row, SETTINGS).options
    assert options == Options(
        top_k=2, purify=False, votes="full", method="ddpm", seed=7, inversion_steps=3, clips=4
    )


def test_json_holds_base64_and_options() -> None:
    video = base64.b64encode(b"v").decode()
    request = parse_row({"body": {"video": video, "options": {"top_k": 1}}}, SETTINGS)
    assert request.video == b"v"
    assert request.options.top_k == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"video": b"v", "topk": b"1"}, r"unknown option 'topk'; the options are top_k, inversion"),
        ({"video": b"v", "clips": b"0"}, r"option 'clips'.*greater than or equal to 1, got '0'"),
        ({"video": b"v", "clips": b"5"}, r"option 'clips' must be in 1\.\.4, got 5"),
        ({"video": b"v", "top_k": b"0"}, r"option 'top_k'.*greater than or equal to 1, got '0'"),
        ({"video": b"v", "top_k": b"many"}, r"option 'top_k'.*integer.*got 'many'"),
        ({"video": b"v", "votes": b"some"}, r"option 'votes'.*'early' or 'full', got 'some'"),
        ({"video": b"v", "method": b"x"}, r"option 'method'.*'videopure', .*got 'x'"),
        ({"video": b"v", "purify": b"perhaps"}, r"option 'purify'.*boolean.*got 'perhaps'"),
        ({"video": b"v", "seed": b"-1"}, r"option 'seed'.*got '-1'"),
        (
            {"video": b"v", "inversion_steps": b"11"},
            r"'inversion_steps' must be in 0\.\.10, got 11",
        ),
        ({"video": b"v", "top_k": b"\xff"}, r"option 'top_k' is not UTF-8 text"),
        ({"top_k": b"1"}, r"holds no video"),
        ({"video": 3}, r"'video' must hold the bytes of a video, got int"),
        ({"body": bytearray(b'{"video": ')}, r"looks like JSON but cannot be parsed"),
        ({"body": {}}, r"field 'video' of the JSON body must be a base64 string, got NoneType"),
        ({"body": {"video": "%"}}, r"is not base64"),
        ({"body": {"video": "ä"}}, r"is not base64"),
        ({"body": [1]}, r"field 'body' must hold the bytes of a video, got list"),
        ({"body": {"video": "", "options": 3}}, r"'options' .* must be an object, got int"),
        ({"body": {"video": "", "extra": 3}}, r"unknown field 'extra' in the JSON body"),
        ({"body": {"video": "", "options": {"x": 1}}}, r"unknown option 'x'"),
    ],
)
def test_faults_are_named(row: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        parse_row(row, SETTINGS)


@pytest.mark.parametrize(
    "row",
    [
        {"video": b"v", "seed": b"\x01" * 1_000_000},
        {"video": b"v", "x" * 1_000_000: b"1"},
        {"video": b"v", **{f"x{i}": b"1" for i in range(10_000)}},
        {"body": {"video": "", "options": {"top_k": [1] * 1_000_000}}},
        {"body": {"video": "", "x" * 1_000_000: 1}},
        {"body": {"video": "", "options": {"clips": 10**4000}}},
        {"body": {"video": "", "options": {"top_k": nested(100_000)}}},
    ],
)
def test_messages_stay_short(row: dict[str, object]) -> None:
    """An answer beyond TorchServe's `max_response_size` would kill the worker."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_row(row, SETTINGS)
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize("option", ["top_k", "clips", "inversion_steps", "seed"])
def test_true_is_no_number(option: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"option '{option}': .* number, got True"):
        parse_options({option: True})
