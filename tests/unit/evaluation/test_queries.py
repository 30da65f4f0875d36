"""Attacks through the answers as clients are told them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.defences import DEFENCES, DEFENDED
from tests.support.models import LABELS
from tests.support.videos import encode
from videopure.evaluation.attacks.queries import queries, served_lead
from videopure.evaluation.attacks.rays import rays
from videopure.evaluation.attacks.threat_models import Task
from videopure.evaluation.defences.filters import NONE
from videopure.evaluation.defences.purifiers import VIDEOPURE
from videopure.evaluation.served import LEVELS, ServedAnswers
from videopure.format.settings import Detail, HandlerSettings, Policy
from videopure.handler.service import VideoPureService
from videopure.wire.schemas import ModelNames

pytestmark = pytest.mark.unit

GREY = torch.full((2, 3, 3, 8, 8), 0.5)


def clips(count: int = 2) -> Tensor:
    drawn = torch.rand(count, 3, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    return (drawn * 255).round() / 255


def job(count: int = 2, epsilon: float = 16 / 255) -> Task:
    seeds = list(range(count))
    labels = torch.tensor([a.label_id for a in DEFENCES[VIDEOPURE].answer(clips(count), seeds)])
    generator = torch.Generator().manual_seed(0)
    return Task(
        *(clips(count), labels, DEFENDED.recogniser, epsilon, generator),
        defence=DEFENCES[VIDEOPURE],
    )


@pytest.mark.parametrize("level", LEVELS)
def test_what_the_attack_is_told_is_what_a_client_is_answered(level: Detail) -> None:
    """Against the service that reads the same clip from a video without loss."""
    shown = clips(1)
    frames = (shown[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    settings = HandlerSettings(purification=DEFENDED.settings, policy=Policy(answer=level))
    names = ModelNames(name="tiny", version="1", recogniser="tiny", purifier="tiny")
    service = VideoPureService(DEFENDED, settings, names)
    row = {"video": encode(frames, "matroska", "ffv1", "bgr0"), "top_k": str(len(LABELS)).encode()}
    (reply,) = service.answer([row], ["one"]).replies
    (told,) = ServedAnswers(DEFENDED, level)(shown)
    for key in ("detail", "predictions", "suspicion", "votes", "undefended"):
        assert told[key] == reply.body[key]
    scores = [p["score"] for p in told["predictions"]]
    if level == "label":
        assert scores == [None]
    else:
        assert len(scores) == len(LABELS)
        assert (scores == [round(s, 2) for s in scores]) == (level == "scores")


def test_the_lead_is_that_of_the_scores_and_never_against_the_label() -> None:
    def answer(*predictions: tuple[int, float]) -> dict[str, Any]:
        return {"predictions": [{"label_id": k, "score": s} for k, s in predictions]}

    assert served_lead(answer((1, 0.7), (0, 0.2), (2, 0.1)), 1) == pytest.approx(0.5)
    assert served_lead(answer((0, 0.7), (1, 0.2), (2, 0.1)), 1) < -1
    # The vote names class 1, though class 0 has the better mean score; and the other way round.
    assert served_lead(answer((1, 0.4), (0, 0.5)), 1) > 0
    assert served_lead(answer((1, 0.4), (0, 0.5)), 0) < 0
    assert served_lead(answer((1, 0.5), (0, 0.5)), 1) > 0


@pytest.mark.parametrize("level", LEVELS)
def test_queries_are_counted_and_stay_within_the_budget(
    level: Detail, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    call = ServedAnswers.__call__

    def counting(self: ServedAnswers, shown: Tensor) -> list[dict[str, Any]]:
        asked.append(len(shown))
        return call(self, shown)

    monkeypatch.setattr(ServedAnswers, "__call__", counting)
    task = job()
    attacked = queries(16, 12)[level](task)
    assert len(asked) <= 12
    assert all(1 <= count <= 2 for count in asked)
    assert 0 < (attacked - task.clips).abs().max() <= 16 / 255 + 1e-6
    assert ((attacked * 255) - (attacked * 255).round()).abs().max() < 1e-3


def test_square_by_full_scores_lowers_the_lead() -> None:
    task = job(1)
    served = ServedAnswers(DEFENDED, "full")
    attacked = queries(16, 60)["full"](task)
    before, after = (served_lead(served(x)[0], int(task.labels)) for x in (task.clips, attacked))
    assert after < before


def test_only_what_is_served_can_be_asked() -> None:
    task = replace(job(), defence=DEFENCES[NONE])
    with pytest.raises(ValueError, match="'none' is not served"):
        queries(4, 2)["scores"](task)


def test_rays_finds_a_direction_in_which_the_label_flips_within_the_budget() -> None:
    told: list[int] = []

    def bright(shown: Tensor, rows: Tensor) -> Tensor:
        """Wrong where the first frame is brighter by 0.02: by two thirds of the budget."""
        told.append(len(shown))
        return shown[:, 0].mean(dim=(1, 2, 3)) > 0.52

    generator = torch.Generator().manual_seed(1)
    found = rays(bright, GREY, epsilon=0.03, queries=400, generator=generator)
    assert len(told) < 400  # it stops where it has got there
    assert bright(found, torch.arange(2)).all()
    assert (found - GREY).abs().max() <= 0.03 + 1e-6


def test_rays_stays_within_the_budget_where_it_finds_nothing() -> None:
    told: list[int] = []

    def never(shown: Tensor, rows: Tensor) -> Tensor:
        told.append(len(shown))
        return torch.zeros(len(shown), dtype=torch.bool)

    found = rays(never, GREY, epsilon=0.03, queries=20, generator=torch.Generator())
    assert told == [2] * 20
    assert (found - GREY).abs().max() <= 0.03 + 1e-6
