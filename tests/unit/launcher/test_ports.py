"""Where a server listens."""

import pytest

from videopure.launcher.ports import addresses

pytestmark = pytest.mark.unit


def test_a_port_moves_all_five_and_an_address_predictions_alone() -> None:
    assert addresses("0.0.0.0", 9000) == {
        "inference_address": "http://0.0.0.0:9000",
        "management_address": "http://127.0.0.1:9001",
        "metrics_address": "http://127.0.0.1:9002",
        "grpc_inference_address": "0.0.0.0",
        "grpc_inference_port": "9003",
        "grpc_management_address": "127.0.0.1",
        "grpc_management_port": "9004",
    }


def test_an_address_alone_leaves_torchserves_ports() -> None:
    found = addresses("10.1.2.3")
    assert found["inference_address"] == "http://10.1.2.3:8080"
    assert (found["grpc_inference_port"], found["grpc_management_port"]) == ("7070", "7071")


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("::1", None, r"bind must be an IPv4 address such as 0\.0\.0\.0, got '::1'"),
        ("example.org", None, "bind must be an IPv4 address"),
        ("127.0.0.1", 65532, "port must be 1 to 65531, .* got 65532"),
        ("127.0.0.1", 0, "got 0"),
    ],
)
def test_what_cannot_be_listened_on_is_named(host: str, port: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        addresses(host, port)
