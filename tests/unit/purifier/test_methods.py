"""A method of purification is one class: those there are, and another one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity import FIXTURE, load_pipeline
from tests.support.models import tiny_recogniser
from videopure.purifier import METHODS, DefendedRecogniser, PurifySettings, Randomisation
from videopure.purifier.methods import PURIFICATIONS, Candidate, Purification

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]


class RoundTrip(Purification):
    """Two candidates: the clips as encoded, and nothing."""

    @property
    def num_candidates(self) -> int:
        return 2

    def invert(self, encoded: Tensor) -> Tensor:
        return encoded

    def denoise(self, noisy: Tensor, encoded: Tensor, flow: Tensor | None) -> Iterator[Candidate]:
        assert flow is None
        yield Candidate(1, noisy * 0)
        yield Candidate(0, noisy)


def test_every_method_has_its_steps() -> None:
    assert tuple(PURIFICATIONS) == METHODS


def test_another_method_is_one_class() -> None:
    pipeline = load_pipeline(FIXTURE)
    settings = PurifySettings(votes="full")
    defended = DefendedRecogniser(pipeline, tiny_recogniser(3, (16, 24)), settings, RoundTrip)
    video = torch.rand(2, 3, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = pipeline.decode(pipeline.encode(video))
    torch.testing.assert_close(defended.purify(video), expected)
    for clip, verdict in enumerate(defended.answer(video, keep_purified=True).verdicts):
        assert [vote.timestep for vote in verdict.votes] == [1, 0]
        assert verdict.purified is not None
        torch.testing.assert_close(verdict.purified, expected[clip])


def test_settings_know_what_is_drawn() -> None:
    drawn = {method: PurifySettings(method=method).randomised for method in METHODS}
    assert drawn == {
        "videopure": False,
        "one_look": False,
        "ddim_inversion": False,
        "ddim": True,
        "ddpm": True,
    }
    eta = Randomisation(eta=0.5)
    assert PurifySettings(randomisation=eta).randomised
    assert not PurifySettings(method="ddim_inversion", randomisation=eta).randomised


@pytest.mark.parametrize(
    "place", ["docs/serving.md", "archive/templates/model-config.yaml", "cli/predict.py"]
)
def test_what_people_read_names_every_method(place: str) -> None:
    """These cannot take the names from the code; the client works without torch."""
    lines = [line for line in (ROOT / place).read_text().splitlines() if "ddim_inversion" in line]
    assert lines
    assert all(method in line for line in lines for method in METHODS)
