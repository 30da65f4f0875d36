"""SlowFast, X3D and Hiera as exported programs: built into an archive, answering as before."""

from pathlib import Path

import pytest
import torch

from tests.support import exports
from tests.support.pipelines import TEXT_TO_VIDEO
from videopure.archive import BuildSpec, build
from videopure.format.loading import load_folder

# Exporting takes up to ten seconds. The packages are of 2022: they call what torch and timm have
# deprecated since.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.mark.parametrize("name", list(exports.MODELS))
@torch.no_grad()
def test_an_exported_model_answers_in_its_archive_as_before(
    name: str, tmp_path: Path, torchvision: None
) -> None:
    if not exports.available():
        pytest.skip("there is no pytorchvideo: see `make exports`")
    torch.manual_seed(0)
    model = exports.MODELS[name]()
    model.network.eval()
    file = exports.export(model, tmp_path / f"{name}.pt2")
    spec = BuildSpec(
        recogniser=file,
        recogniser_config=file.with_suffix(".yaml"),
        trust_program=True,
        pipeline=TEXT_TO_VIDEO,
        out=tmp_path / "built",
        folder=True,
        trial=False,
        config={"videopure": {"allow_programs": True, "purification": {"method": "one_look"}}},
    )
    root = build(spec)
    defended = load_folder(root, spec.check().videopure, torch.device("cpu")).defended
    clips = torch.rand(2, model.frames, 3, *defended.recogniser.frame_size)
    expected = model.network((clips.transpose(1, 2) - 0.45) / 0.225)
    assert expected.shape == (2, exports.CLASSES)
    assert (expected.sum(1) - 1).abs().max() > 1e-3  # logits, and no probabilities
    found = defended.recogniser.logits(clips)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    (verdict,) = defended.answer(clips[:1]).verdicts
    assert verdict.probabilities.sum() == pytest.approx(1, abs=1e-5)
