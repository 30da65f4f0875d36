"""The demo's attacks, on toys with a known answer."""

import pytest
import torch
from torch import Tensor

from videopure.demo.attacks import pgd, square

pytestmark = pytest.mark.unit


def brightness_logits(clips: Tensor) -> Tensor:
    """Class 1 where the mean pixel exceeds one half: the best attack moves every pixel alike."""
    mean = clips.mean(dim=(1, 2, 3, 4))
    return torch.stack((0.5 - mean, mean - 0.5), dim=1) * 20


def clips_at(*means: float) -> Tensor:
    return torch.stack([torch.full((4, 3, 8, 8), mean) for mean in means])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_pgd_finds_the_worst_case() -> None:
    clips = clips_at(0.53, 0.60)
    labels = torch.tensor([1, 1])
    attacked = pgd(brightness_logits, clips, labels, epsilon=0.05, steps=60, generator=seeded())
    # The optimum is the clip minus epsilon everywhere.
    torch.testing.assert_close(attacked, clips - 0.05, rtol=0, atol=1e-6)
    assert brightness_logits(attacked).argmax(1).tolist() == [0, 1]


def test_square_fools_what_can_be_fooled_and_keeps_the_budget() -> None:
    clips = clips_at(0.51, 0.60, 0.40)
    labels = torch.tensor([1, 1, 1])
    attacked = square(
        brightness_logits, clips, labels, epsilon=0.05, queries=300, generator=seeded()
    )
    assert (attacked - clips).abs().max().item() <= 0.05 + 1e-6
    assert brightness_logits(attacked).argmax(1).tolist() == [0, 1, 0]


def test_square_only_ever_lowers_the_margin() -> None:
    clips = clips_at(0.60)
    labels = torch.tensor([1])
    means = [
        square(brightness_logits, clips, labels, epsilon=0.05, queries=n, generator=seeded()).mean()
        for n in (1, 50, 200)
    ]
    assert means[0] >= means[1] >= means[2]
    assert means[0] > means[2]


@pytest.mark.parametrize("epsilon", [4 / 255, 8 / 255])
def test_attacked_clips_stay_pixels(epsilon: float) -> None:
    clips = torch.rand(2, 3, 3, 8, 8, generator=seeded()).round()
    labels = torch.tensor([0, 1])
    for attacked in (
        pgd(brightness_logits, clips, labels, epsilon=epsilon, generator=seeded()),
        square(brightness_logits, clips, labels, epsilon=epsilon, queries=5, generator=seeded()),
    ):
        assert attacked.min() >= 0
        assert attacked.max() <= 1
        assert (attacked - clips).abs().max().item() <= epsilon + 1e-6
