"""`evaluate(...)`: one call from an archive and labelled clips to what holds."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.models import LABELS, save_recogniser
from videopure.evaluation import EvaluationError, Progress, evaluate
from videopure.evaluation.api import results_folder
from videopure.evaluation.data import ClipSource
from videopure.evaluation.gate import GateError
from videopure.purifier import load_recogniser

pytestmark = pytest.mark.unit


class Noise(ClipSource):
    """Random clips of the first two classes."""

    def __len__(self) -> int:
        return 3

    def load(self, start: int, count: int) -> tuple[Tensor, Tensor, list[str]]:
        numbers = range(start, start + count)
        clips = [
            torch.rand(4, 3, 16, 24, generator=torch.Generator().manual_seed(k)) for k in numbers
        ]
        labels = torch.tensor([k % 2 for k in numbers])
        return torch.stack(clips), labels, [str(k) for k in numbers]

    def describe(self) -> Any:
        return "noise"

    def check(self, clips: int) -> None:
        """Nothing to check."""


def test_one_call_returns_and_writes_what_an_archive_answers(
    tiny_archive: Path, tmp_path: Path
) -> None:
    progress: list[Progress] = []
    threads = torch.get_num_threads()
    chosen: dict[str, Any] = {
        "data": Noise(),
        "clips": 3,
        "threats": ["clean", "PGD-10 4/255"],
        "defences": ["none", "VideoPure"],
        "threads": 1,
        "out": tmp_path / "out",
    }
    result = evaluate(tiny_archive, **chosen, on_progress=progress.append)
    assert torch.get_num_threads() == threads
    assert [(p.done, p.total) for p in progress] == [(6, 12), (12, 12)]
    assert progress[-1].threat == "PGD-10 4/255"
    assert result.report == tmp_path / "out" / "report.html"
    assert result.report.is_file()
    assert set(result.seconds_alone) == {"none", "VideoPure"}

    # The recogniser that the archive was built from, by itself.
    bare = load_recogniser(save_recogniser(tmp_path / "recogniser"))
    clips, labels, _ = Noise().load(0, 3)
    right = bare.logits(clips).argmax(1) == labels
    assert result.accuracy(defence="none") == pytest.approx(right.double().mean().item(), abs=1e-4)
    answered = [r.right for r in result.records if (r.threat, r.defence) == ("clean", "none")]
    assert answered == right.tolist()
    at_4 = [r.right for r in result.records if (r.threat, r.defence) == ("PGD-10 4/255", "none")]
    both = [a and b for a, b in zip(answered, at_4, strict=True)]
    assert result.worst_case(4, "none") == pytest.approx(sum(both) / 3, abs=1e-4)
    assert result.worst_case(4) <= result.accuracy("PGD-10 4/255")
    assert json.loads((result.folder / "summary.json").read_text()) == result.summary
    assert (result.folder / "tables.md").read_text() == result.markdown()
    with (result.folder / "clips.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(result.records) == 12
    assert result.summary["labels"] == LABELS

    asked = ["none: clean=1", "clean=0"]
    stored = evaluate(tiny_archive, **chosen, stored_only=True, fail_under=asked)
    assert stored.records == result.records
    assert stored.seconds_alone == {}
    assert result.shortfalls == ()
    assert sum(answered) < 3
    (short,) = stored.shortfalls
    assert short.startswith(f"clean of none: {sum(answered) / 3:.4g} is less than 1 ")
    unknown = {**chosen, "out": tmp_path / "unknown", "fail_under": ["worst case 8/255=0.5"]}
    with pytest.raises(GateError, match="has no 'worst case 8/255' of VideoPure"):
        evaluate(tiny_archive, **unknown)
    assert not unknown["out"].exists()
    with pytest.raises(ValueError, match="accuracy of 'magic' at 'clean' was not evaluated; there"):
        result.accuracy(defence="magic")
    with pytest.raises(ValueError, match=r"worst_case of 'VideoPure' at '8' .*; there is '4'"):
        result.worst_case(8)


def test_results_of_another_archive_stand_in_the_same_tables(
    tiny_archive: Path, tmp_path: Path
) -> None:
    chosen: dict[str, Any] = {
        "data": Noise(),
        "clips": 2,
        "threats": ["clean", "PGD-10 4/255"],
        "threads": 1,
    }
    control = evaluate(tiny_archive, defences=["none"], out=tmp_path / "one" / "control", **chosen)
    ours = {"out": tmp_path / "ours", "defences": ["DDIM"], **chosen}
    both = evaluate(tiny_archive, beside=[control.folder], **ours)
    assert list(both.summary["accuracy"]) == ["DDIM", "control: none"]
    for threat in chosen["threats"]:
        assert both.accuracy(threat, "control: none") == control.accuracy(threat, "none")
    assert both.worst_case(4, "control: none") == control.worst_case(4, "none")
    assert "| control: none |" in both.markdown()
    assert both.summary["missing"] == {}
    # What is beside it is not stored with it.
    assert list(evaluate(tiny_archive, stored_only=True, **ours).summary["accuracy"]) == ["DDIM"]

    def fails(message: str, *folders: Path, **other: Any) -> None:
        with pytest.raises(EvaluationError, match=message):
            evaluate(tiny_archive, beside=folders, **{**ours, **other})

    fails("control holds results with other seed", control.folder, seed=1, out=tmp_path / "seed")
    fails("nothing holds no results of videopure evaluate", tmp_path / "nothing")
    fails("two folders are named 'control'", control.folder, control.folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"suite": "quik"},
            "suite must be one of quick, .*, full, got 'quik'",
        ),
        ({"fail_under": ["clean"]}, "fail_under must be .*, got 'clean'"),
        ({"dtype": "int8"}, "dtype must be one of float32, .*, got 'int8'"),
        ({}, "missing.mar: .* build one with `videopure build`, or name another"),
    ],
)
def test_what_cannot_be_evaluated_is_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluate("missing.mar", **options)  # type: ignore[arg-type]


def test_results_of_archives_and_splits_are_kept_apart() -> None:
    assert results_folder(Path("a/my.mar")) == Path("evaluation-out/my")
    assert results_folder(Path("my.mar"), "validation") == Path("evaluation-out/my-validation")
