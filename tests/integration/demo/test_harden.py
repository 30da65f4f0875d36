"""Hardening of the demo's models: where it begins."""

from pathlib import Path

import pytest
import torch

from videopure.archive.licences import find_licence
from videopure.demo import harden
from videopure.evaluation.metrics import psnr
from videopure.motions import BUNDLE
from videopure.motions.bundle_files import BundleSettings
from videopure.motions.clips import Stream
from videopure.motions.dataset import load_split
from videopure.purifier import DefendedRecogniser, VideoPurePipeline, load_recogniser


def test_the_purifier_that_hardening_begins_with_changes_next_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harden, "CODEC_CLIPS", 60)
    folder = harden.still_purifier(tmp_path / "pipeline")
    assert find_licence(folder) == "apache-2.0"
    pipeline = VideoPurePipeline.from_pretrained(folder, dtype=torch.float32)
    settings = BundleSettings(harden.ONE_LOOK, {}).purify_settings()
    defended = DefendedRecogniser(pipeline, load_recogniser(BUNDLE / "recogniser"), settings)
    clips, labels = load_split(Stream("test"), 0, 2)
    assert psnr(defended.purify(clips), clips) > 35  # dB: what the codec leaves out
    assert [v.label_id for v in defended.answer(clips).verdicts] == labels.tolist()
