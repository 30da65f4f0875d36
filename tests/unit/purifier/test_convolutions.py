"""3D convolutions that call oneDNN: the same numbers as torch's own."""

import copy

import pytest
import torch
from torch import nn

from videopure.purifier.convolutions import OneDNNConv3d, use_onednn

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (3, 1, 1), "padding": (1, 0, 0)},
        {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
        {"kernel_size": (1, 2, 2), "stride": (1, 2, 2)},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_answers_and_gradients_are_those_of_torch(options: dict[str, object], batch: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(4, 6, **options))  # type: ignore[arg-type]
    ours = copy.deepcopy(network)
    use_onednn(ours)
    assert type(ours[0]) is OneDNNConv3d
    assert ours.state_dict().keys() == network.state_dict().keys()
    clips = torch.randn(batch, 4, 5, 8, 8)
    results = []
    for layer in (network, ours):
        given = clips.clone().requires_grad_()
        answer = layer(given)
        answer.square().sum().backward()
        results.append((answer, given.grad, layer[0].weight.grad))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_other_dtypes_and_subclasses_are_left_to_torch() -> None:
    class Own(nn.Conv3d):
        pass

    network = nn.Sequential(nn.Conv3d(1, 1, 1), Own(1, 1, 1)).double()
    use_onednn(network)
    assert type(network[1]) is Own
    assert network(torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)).dtype == torch.float64
