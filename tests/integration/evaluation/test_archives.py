"""Every form of an archive is opened alike by the evaluation, `purify` and the worker."""

from pathlib import Path

import pytest
import torch

from tests.parity import FIXTURE
from tests.support.models import save_recogniser
from videopure.archive import BuildSpec, build
from videopure.evaluation.archives import load_evaluated
from videopure.evaluation.store import EvaluationError
from videopure.format.loading import load_archive
from videopure.format.opening import digest_archive

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")


def build_as(root: Path, out: str, **form: bool) -> Path:
    recogniser = root / "recogniser"
    if not recogniser.exists():
        save_recogniser(recogniser)
    config = {"videopure": {"purification": {"inversion_steps": 1}}}
    return build(
        BuildSpec(
            recogniser=recogniser,
            pipeline=FIXTURE / "model_seed0",
            out=root / out,
            name="videopure",
            config=config,
            trial=False,
            **form,
        )
    )


def test_a_file_a_folder_and_a_thin_archive_give_the_same_answers(tmp_path: Path) -> None:
    forms = {
        "file": build_as(tmp_path, "one/videopure.mar"),
        "folder": build_as(tmp_path, "two/videopure", folder=True),
        "thin": build_as(tmp_path, "three/videopure.mar", thin=True),
    }
    clips = torch.rand(1, 4, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    loaded = {name: load_evaluated(path, CPU).defended(clips) for name, path in forms.items()}
    assert torch.equal(loaded["file"], loaded["folder"])
    assert torch.equal(loaded["file"], loaded["thin"])
    assert torch.equal(loaded["file"], load_archive(forms["folder"], CPU).defended(clips))
    assert len({digest_archive(path) for path in forms.values()}) == 1


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"there is no archive .*: build one with"):
        load_evaluated(tmp_path / "none.mar", CPU)
    with pytest.raises(EvaluationError, match=r"has no videopure\.json|no model-config\.yaml"):
        load_evaluated(tmp_path, CPU)
