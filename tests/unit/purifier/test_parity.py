"""Every recorded tensor of the published procedure, within its tolerance."""

from pathlib import Path

import pytest
import torch

from tests.parity import FIXTURE, Comparison, GoldenCase, compare, load_pipeline, unit_comparisons

pytestmark = pytest.mark.unit


def report(comparisons: list[Comparison]) -> list[Comparison]:
    return [row for row in comparisons if not row.passed]


def test_parts_agree_with_the_recorded_units() -> None:
    rows = list(unit_comparisons(FIXTURE))
    assert len(rows) == 10
    assert report(rows) == []


@pytest.mark.extended
@pytest.mark.parametrize("file", sorted(FIXTURE.glob("case_*.safetensors")), ids=lambda f: f.stem)
@torch.no_grad()
def test_pipeline_agrees_with_the_recorded_case(file: Path) -> None:
    case = GoldenCase(file, load_pipeline(FIXTURE))
    rows = list(case.comparisons())
    # Everything recorded is compared, except what only enters as input.
    inputs = {"input/clip_u8", "flow/full_x8", "ddim/noise_x32"}
    assert {row.name for row in rows} == set(case.tensors) - inputs
    assert report(rows) == []


@torch.no_grad()
def test_the_comparison_notices_the_usual_mistakes() -> None:
    """Negated flow, swapped axes and a shifted timestep move the votes out of tolerance."""
    from videopure.purifier.guidance import Guidance

    file = FIXTURE / "case_clip9018.safetensors"
    case = GoldenCase(file, load_pipeline(FIXTURE))
    recorded = case.tensors["t2/voted_latents"]

    def votes(flow: torch.Tensor, temporal: bool = True, inversion_steps: int = 2) -> Comparison:
        schedule = case.schedule(inversion_steps)
        latent_flow = case.pipeline.estimate_flow(case.video, flow)
        top = case.pipeline.invert(case.encoded, schedule, temporal=temporal)[-1]
        guidance = Guidance(reference=None)
        steps = case.pipeline.denoise(top, case.encoded, latent_flow, schedule, guidance)
        ours = torch.cat([step.candidate for step in steps])
        return compare(case.name, "votes", recorded, ours, 5e-4)

    assert votes(case.flow).passed
    assert not votes(-case.flow).passed
    assert not votes(case.flow.flip(2)).passed
    assert not votes(case.flow, temporal=False).passed
