"""Every attack on a GPU; `pytest -m gpu` runs these where there is one."""

import pytest
import torch

from tests.support.defences import DEFENCES, DEFENDED
from videopure.evaluation.attacks.queries import queries
from videopure.evaluation.attacks.registry import adaptive, static
from videopure.evaluation.attacks.threat_models import Task, Threat
from videopure.evaluation.defences.purifiers import VIDEOPURE

pytestmark = [pytest.mark.unit, pytest.mark.gpu]

# The recorded pipeline has fewer frames than sparse frames changes.
THREATS: list[Threat] = [
    *(
        threat
        for threat in static(4).values()
        if threat.family not in ("transfer", "sparse frames")
    ),
    *adaptive(4, steps=2).values(),
    *queries(4, 4).values(),
]


@pytest.mark.parametrize("threat", THREATS, ids=[threat.family for threat in THREATS])
def test_every_attack_runs_on_a_gpu(threat: Threat) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    recogniser = DEFENDED.recogniser
    shape = (2, recogniser.num_frames, 3, *recogniser.frame_size)
    clips = torch.rand(shape, generator=torch.Generator().manual_seed(1)).cuda()
    DEFENDED.to("cuda")
    try:
        task = Task(
            clips,
            torch.tensor([0, 1]).cuda(),
            recogniser,
            4 / 255,
            torch.Generator().manual_seed(0),
            defence=DEFENCES[VIDEOPURE],
            together=True,
        )
        attacked = threat(task)
    finally:
        DEFENDED.to("cpu")
    assert attacked.device == clips.device
    assert (attacked - clips).abs().max() <= 4.5 / 255 + 1e-6
